"""The response headers of a decision, for middleware, decorator and throttles alike.

``RateLimit`` and ``RateLimit-Policy`` follow the IETF's draft "RateLimit header fields
for HTTP" (draft-ietf-httpapi-ratelimit-headers, revision 11); ``X-Retry-After`` is
RustAuth's own (MW-18).
"""

from functools import lru_cache

from ..engine.durations import ceil_seconds
from .rates import RateLimitDecision

# The largest integer of a structured field (RFC 9651).
MAX_INTEGER = 10**15 - 1


def limit_headers(name: str, decision: RateLimitDecision) -> dict[str, str]:
    """The headers for the limit ``name`` that was checked for a request."""
    assert decision.rule is not None
    quoted_name, policy = _constants(name, decision.limit, decision.rule.window_ms)
    remaining, reset_after = integer(decision.remaining), integer(decision.reset_after)
    headers = {
        "RateLimit-Policy": policy,
        "RateLimit": f"{quoted_name};r={remaining};t={reset_after}",
    }
    if not decision.permitted:
        headers["Retry-After"] = headers["X-Retry-After"] = str(decision.retry_after)
    return headers


@lru_cache(maxsize=1024)
def _constants(name: str, limit: int, window_ms: int) -> tuple[str, str]:
    """A limit's name as it is sent, and its policy, which are the same in every response."""
    quoted_name = quoted(name)
    return quoted_name, f"{quoted_name};q={integer(limit)};w={integer(ceil_seconds(window_ms))}"


def integer(value: int) -> int:
    """A structured field's integer."""
    return min(value, MAX_INTEGER)


def quoted(text: str) -> str:
    """A structured field's string: printable ASCII between quotes."""
    ascii_text = text.encode("ascii", "backslashreplace").decode()
    printable = "".join(char for char in ascii_text if " " <= char <= "~")
    escaped = printable.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
