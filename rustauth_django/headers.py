"""A decision as response headers, in one place for every edge.

``RateLimit`` and ``RateLimit-Policy`` follow the IETF's draft "RateLimit header fields
for HTTP" (draft-ietf-httpapi-ratelimit-headers, revision 10); ``X-Retry-After`` is
RustAuth's own (MW-18).
"""

from .durations import ceil_seconds
from .rates import RateLimitDecision, RateLimitRule


def limit_headers(name: str, rule: RateLimitRule, decision: RateLimitDecision) -> dict[str, str]:
    """What every response tells of the limit ``name`` that was checked for it."""
    policy = quoted(name)
    headers = {
        "RateLimit-Policy": f"{policy};q={decision.limit};w={ceil_seconds(rule.window_ms)}",
        "RateLimit": f"{policy};r={decision.remaining};t={decision.reset_after}",
    }
    if not decision.permitted:
        headers["Retry-After"] = headers["X-Retry-After"] = str(decision.retry_after)
    return headers


def quoted(text: str) -> str:
    """A structured-field string (RFC 9651): printable ASCII between quotes."""
    ascii_text = text.encode("ascii", "backslashreplace").decode()
    printable = "".join(char for char in ascii_text if " " <= char <= "~")
    escaped = printable.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
