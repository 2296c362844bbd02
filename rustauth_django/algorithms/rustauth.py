"""The RustAuth window: at most ``max`` requests with no gap longer than the window.

Each permitted request restarts the window, so a bucket is whole again only after a
pause longer than that (RL-08 to RL-12, QUIRK-06). ``rustauth.lua`` decides the same on
the server. All arithmetic is in integers, in milliseconds.
"""

from dataclasses import dataclass
from typing import Any

from ..durations import MAX_TTL_MS, ceil_seconds
from ..exceptions import BackendError
from ..rates import RateLimitDecision, RateLimitRule
from ..scripts import Script

SCRIPT = Script.load(__package__, "rustauth.lua")

# A bucket outlives its window by this much, so that a request at the very end of a
# window finds it, whatever the network took (QUIRK-08).
TTL_MARGIN_MS = 250
# Lua's numbers are doubles: the script reads no time of more than fifteen digits.
MAX_NOW_MS = 10**15 - 1


@dataclass(frozen=True, slots=True)
class State:
    """What a bucket holds: permitted requests, and the time of the last of them."""

    count: int
    last_request: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one request did to a bucket. ``now_ms`` is the time it was decided at."""

    permitted: bool
    count: int
    last_request: int
    now_ms: int


def step(
    state: State | None, now_ms: int, window_ms: int, limit: int, cost: int = 1
) -> tuple[Outcome, State | None]:
    """Decide one request: the outcome, and the state to keep if it is a new one.

    A ``cost`` above zero spends, all or nothing, and a refusal leaves the state as it was
    (RL-12). Zero only looks. Below zero gives back what was spent in this window.
    """
    count, last = 0, now_ms
    if state is not None:
        # Time never moves backwards, whatever another host's clock says (QUIRK-10).
        now_ms = last = max(now_ms, state.last_request)
        if now_ms - state.last_request <= window_ms:
            count, last = state.count, state.last_request
    if cost == 0:
        return Outcome(count < limit, count, last, now_ms), None
    if cost < 0:
        left = max(0, count + cost)
        return Outcome(True, left, last, now_ms), State(left, last) if count else None
    if count > 0 and count + cost > limit:
        return Outcome(False, count, last, now_ms), None
    return Outcome(True, count + cost, now_ms, now_ms), State(count + cost, now_ms)


def ttl_ms(rule: RateLimitRule) -> int:
    """How long a bucket is kept after a permitted request."""
    return min(rule.window_ms + TTL_MARGIN_MS, MAX_TTL_MS)


def arguments(rule: RateLimitRule, now_ms: int | None, cost: int) -> tuple[int | str, ...]:
    """ARGV of the script."""
    return "" if now_ms is None else now_ms, rule.window_ms, rule.max, ttl_ms(rule), cost


def read_reply(reply: Any) -> Outcome:
    """The script's reply as an outcome; anything else is a ``BackendError`` (RL-28)."""

    def invalid(what: str) -> BackendError:
        return BackendError("rate limit consume", f"invalid rate limit script result: {what}")

    if not isinstance(reply, list) or len(reply) != 4:
        raise invalid("not four values")
    if not all(isinstance(value, int) for value in reply):
        raise invalid("a value was not an integer")
    permitted, count, last_request, now_ms = reply
    if permitted not in (0, 1):
        raise invalid("`permitted` was not 0 or 1")
    if count < 0:
        raise invalid("`count` was negative")
    return Outcome(permitted == 1, count, last_request, now_ms)


def decide(outcome: Outcome, rule: RateLimitRule) -> RateLimitDecision:
    """The decision's fields (RL-13 to RL-18), where a refusal never says 0 (QUIRK-07)."""
    wait_ms = outcome.last_request + rule.window_ms - outcome.now_ms
    reset_after = ceil_seconds(wait_ms) if outcome.count else 0
    if not outcome.permitted:
        reset_after = max(1, reset_after)
    return RateLimitDecision(
        permitted=outcome.permitted,
        retry_after=0 if outcome.permitted else reset_after,
        limit=rule.max,
        remaining=max(0, rule.max - outcome.count),
        reset_after=reset_after,
    )
