"""A decision as response headers, in one place for every edge.

``RateLimit`` and ``RateLimit-Policy`` follow the IETF's draft "RateLimit header fields
for HTTP" (draft-ietf-httpapi-ratelimit-headers, revision 11); ``X-Retry-After`` is
RustAuth's own (MW-18).
"""

from ..engine.durations import ceil_seconds
from .rates import RateLimitDecision

# The largest integer of a structured field (RFC 9651).
MAX_INTEGER = 10**15 - 1


def limit_headers(name: str, decision: RateLimitDecision) -> dict[str, str]:
    """What every response tells of the limit ``name`` that was checked for it."""
    rule = decision.rule
    assert rule is not None
    policy = quoted(name)
    quota, window = integer(decision.limit), integer(ceil_seconds(rule.window_ms))
    remaining, reset_after = integer(decision.remaining), integer(decision.reset_after)
    headers = {
        "RateLimit-Policy": f"{policy};q={quota};w={window}",
        "RateLimit": f"{policy};r={remaining};t={reset_after}",
    }
    if not decision.permitted:
        headers["Retry-After"] = headers["X-Retry-After"] = str(decision.retry_after)
    return headers


def integer(value: int) -> int:
    """A structured field's integer."""
    return min(value, MAX_INTEGER)


def quoted(text: str) -> str:
    """A structured field's string: printable ASCII between quotes."""
    ascii_text = text.encode("ascii", "backslashreplace").decode()
    printable = "".join(char for char in ascii_text if " " <= char <= "~")
    escaped = printable.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
