"""Several limits decided together, by whichever algorithms; ``consume.lua`` does the same."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from ...engine.operations import InvalidReply, array
from ...engine.scripts import Script
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
# A bucket outlives what it counts by this much, so that a request at the very end of a
# window finds it, whatever the network took (QUIRK-08).
TTL_MARGIN_MS = 250


@lru_cache
def script(algorithms: frozenset[str]) -> Script:
    """The script for rules of these algorithms: what it does not need costs it time."""
    names = sorted(name.replace("-", "_") for name in algorithms)
    files = ["divisions.lua", *(f"{name}.lua" for name in names), "consume.lua"]
    return Script.load(__package__, *files)


def consume(
    limits: Iterable[tuple[str, tuple[int, ...], State]], now_ms: int, cost: int
) -> tuple[list[Outcome], list[Step]]:
    """The outcomes of some limits, and the steps to keep: all of them, or none.

    A limit is the name of its algorithm, the numbers of its rule, and its state.
    """
    steps = [
        STEPS[algorithm](state, now_ms, cost, *numbers) for algorithm, numbers, state in limits
    ]
    is_kept = cost != 0 and all(one.outcome.permitted for one in steps)
    return [one.outcome for one in steps], steps if is_kept else []


def read_reply(reply: Any, count: int) -> list[Outcome]:
    """The script's reply as outcomes. Raises ``InvalidReply`` (RL-28)."""
    return [_read_outcome(*array(item, 4)) for item in array(reply, count)]


def _read_outcome(permitted: Any, used: Any, retry_ms: Any, reset_ms: Any) -> Outcome:
    if not all(isinstance(value, int) for value in (permitted, used, retry_ms, reset_ms)):
        raise InvalidReply("an outcome: a value is no integer")
    if permitted not in (0, 1):
        raise InvalidReply("an outcome: `permitted` is neither 0 nor 1")
    if used < 0:
        raise InvalidReply("an outcome: `used` is negative")
    return Outcome(permitted == 1, used, retry_ms, reset_ms)
