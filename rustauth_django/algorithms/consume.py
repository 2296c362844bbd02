"""Several limits decided together, by whichever algorithms; ``consume.lua`` does the same."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from ..durations import ceil_seconds
from ..exceptions import BackendError
from ..operations import Bucket
from ..rates import RateLimitDecision, RateLimitRule
from ..scripts import Script
from . import fixed_window, gcra, lockout, rustauth, sliding_log, sliding_window
from .base import Outcome, State, Step, StepFunction

STEPS: dict[str, StepFunction] = {
    "rustauth": rustauth.step,
    "fixed-window": fixed_window.step,
    "sliding-window": sliding_window.step,
    "sliding-log": sliding_log.step,
    "gcra": gcra.step,
    "lockout": lockout.step,
}
# Lua's numbers are doubles: the script reads no time of more than fifteen digits.
MAX_NOW_MS = 10**15 - 1
LATEST_MS = 2**53
# A bucket outlives what it counts by this much, so that a request at the very end of a
# window finds it, whatever the network took (QUIRK-08).
TTL_MARGIN_MS = 250


@lru_cache
def script(algorithms: frozenset[str]) -> Script:
    """The script for rules of these algorithms: what it does not need costs it time."""
    names = sorted(name.replace("-", "_") for name in algorithms)
    files = ["divisions.lua", *(f"{name}.lua" for name in names), "consume.lua"]
    return Script.load(__package__, *files)


def step(rule: RateLimitRule, state: State, now_ms: int, cost: int) -> Step:
    """One limit's step."""
    return STEPS[rule.algorithm](state, now_ms, cost, *rule.numbers)


def consume(
    limits: Iterable[tuple[RateLimitRule, State]], now_ms: int, cost: int
) -> tuple[list[Outcome], list[Step]]:
    """The outcomes of some limits, and the steps to keep: all of them, or none."""
    steps = [step(rule, state, now_ms, cost) for rule, state in limits]
    is_kept = cost != 0 and all(one.outcome.permitted for one in steps)
    return [one.outcome for one in steps], steps if is_kept else []


def read_reply(reply: Any, count: int) -> list[Outcome]:
    """The script's reply as outcomes; anything else is a ``BackendError`` (RL-28)."""
    if not isinstance(reply, list) or len(reply) != count:
        raise invalid(f"not {count} outcomes")
    return [_read_outcome(item) for item in reply]


def _read_outcome(reply: Any) -> Outcome:
    if not isinstance(reply, list) or len(reply) != 4:
        raise invalid("not four values")
    if not all(isinstance(value, int) for value in reply):
        raise invalid("a value was not an integer")
    permitted, used, retry_ms, reset_ms = reply
    if permitted not in (0, 1):
        raise invalid("`permitted` was not 0 or 1")
    if used < 0:
        raise invalid("`used` was negative")
    return Outcome(permitted == 1, used, retry_ms, reset_ms)


def invalid(what: str) -> BackendError:
    return BackendError("rate limit consume", f"invalid rate limit script result: {what}")


def decide(outcome: Outcome, bucket: Bucket) -> RateLimitDecision:
    """The decision's fields (RL-13 to RL-18), where a refusal never says 0 (QUIRK-07)."""
    permitted, used, retry_ms, reset_ms = outcome
    limit = bucket.rule.capacity
    retry_ms = 0 if permitted else max(1, min(retry_ms, LATEST_MS))
    retry_after = ceil_seconds(retry_ms)
    reset_after = max(retry_after, ceil_seconds(min(reset_ms, LATEST_MS)))
    remaining = max(0, limit - used)
    return RateLimitDecision(
        permitted, retry_after, limit, remaining, reset_after, bucket.rule, bucket.key, retry_ms
    )
