"""A limiter of its own for each test, and a clock that the test sets.

For pytest, in the ``conftest.py`` at the root: ``pytest_plugins =
["rustauth_django.contrib.testing"]`` brings the fixture ``rate_limits``. For Django's test
cases and unittest's: ``RateLimitTestMixin``.

PYTEST_DONT_REWRITE: the mixin may have been imported before pytest loads the plugin.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from unittest import TestCase, TestResult

from ... import connections
from ...engine.backends import MemoryBackend
from ...engine.durations import Seconds, to_milliseconds
from ...stores import RustAuthStores

# pytest loads the plugins that are named here; the mixin works without them.
pytest_plugins = ["rustauth_django.contrib.testing.fixtures"]


@dataclass
class Clock:
    """A clock that stands still until the test moves it. ``now_ms`` is epoch milliseconds and may
    be set.
    """

    # Always the same, so that no test depends on the moment at which it is run.
    now_ms: int = 1_767_225_600_000  # 2026-01-01

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, seconds: Seconds) -> None:
        """Let time pass."""
        self.now_ms += to_milliseconds(seconds, "seconds")


@dataclass(frozen=True)
class RateLimits:
    """The ``clock`` of a test, and the ``stores`` that use it."""

    clock: Clock = field(default_factory=Clock)

    @property
    def stores(self) -> RustAuthStores:
        """The stores that the app uses during the test: in memory, and empty at first."""
        return connections.get_stores()


@contextmanager
def fresh_rate_limits() -> Iterator[RateLimits]:
    """Within the block the site's limits are on, and count in an empty memory of their own.

    ``override_settings`` works within the block as well.
    """
    rate_limits = RateLimits()
    with connections.use(MemoryBackend(clock=rate_limits.clock)):
        guard = connections.get_guard()
        guard.options = replace(guard.options, enabled=True)
        yield rate_limits


class RateLimitTestMixin(TestCase):
    """Gives each test ``self.rate_limits``, which ``setUp`` can use already."""

    rate_limits: RateLimits

    def run(self, result: TestResult | None = None) -> TestResult | None:
        with fresh_rate_limits() as self.rate_limits:
            return super().run(result)
