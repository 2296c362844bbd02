"""The same as a pytest fixture."""

from collections.abc import Iterator

import pytest

from . import RateLimits, fresh_rate_limits


@pytest.fixture
def rate_limits() -> Iterator[RateLimits]:
    """A limiter of the test's own, switched on, and a clock that it sets."""
    with fresh_rate_limits() as rate_limits:
        yield rate_limits
