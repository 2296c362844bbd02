"""Several limits decided together, by whichever algorithms; the scripts do the same.

One limit has a script of its algorithm's own. The script for several is composed from the
same files.
"""

from collections.abc import Iterable
from functools import cache
from importlib import resources

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
# A log has six bytes for a time.
MAX_NOW_MS = 2**48 - 1
# A bucket outlives what it counts by this much, so that a request at the very end of a
# window finds it, whatever the network took (QUIRK-08).
TTL_MARGIN_MS = 250


@cache
def script_for_one(algorithm: str) -> Script:
    """The script for one limit of this algorithm."""
    return Script.of("\n".join([_lua("bucket"), _lua(algorithm), _lua("consume_one")]))


@cache
def script_for_several(algorithms: frozenset[str]) -> Script:
    """The script for limits of these algorithms, and of no others: each costs it time."""
    steps = [f"{_lua(name)}\nsteps['{name}'] = step" for name in sorted(algorithms)]
    return Script.of("\n".join([_lua("bucket"), "local steps = {}", *steps, _lua("consume")]))


def _lua(name: str) -> str:
    file = resources.files(__package__).joinpath(f"{name.replace('-', '_')}.lua")
    return file.read_text(encoding="utf-8")


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
