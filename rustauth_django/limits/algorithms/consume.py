"""Deciding several limits together, each by its own algorithm; the scripts do the same.

One limit has a script of its algorithm's own. The script for several is composed from the
same files.
"""

from collections.abc import Iterable
from functools import cache
from importlib import resources

from ...engine.commands import Script
from . import fixed_window, gcra, lockout, rustauth, sliding_log, sliding_window
from .base import State, Step, StepFunction, UndoFunction

STEPS: dict[str, StepFunction] = {
    "rustauth": rustauth.step,
    "fixed-window": fixed_window.step,
    "sliding-window": sliding_window.step,
    "sliding-log": sliding_log.step,
    "gcra": gcra.step,
    "lockout": lockout.step,
}
UNDO: dict[str, UndoFunction] = {
    "rustauth": rustauth.undo,
    "fixed-window": fixed_window.undo,
    "sliding-window": sliding_window.undo,
    "sliding-log": sliding_log.undo,
    "gcra": gcra.undo,
    "lockout": lockout.undo,
}
# A log has six bytes for a time.
MAX_NOW_MS = 2**48 - 1
# A bucket stays for this much longer than needed, so that a request at the very end of a window
# finds it however long the network takes (QUIRK-08).
TTL_MARGIN_MS = 250


@cache
def script_for_one(algorithm: str) -> Script:
    """The script for one limit of this algorithm."""
    return Script.of("\n".join([_lua("bucket"), _lua(algorithm), _lua("consume_one")]))


@cache
def script_for_several(algorithms: frozenset[str]) -> Script:
    """The script for limits of these algorithms only, since each algorithm makes it slower."""
    return _with_steps(algorithms, "consume")


@cache
def script_for_settling(algorithms: frozenset[str]) -> Script:
    """The script that ends attempts that were counted by these algorithms."""
    return _with_steps(algorithms, "settle")


def _with_steps(algorithms: frozenset[str], name: str) -> Script:
    steps = [f"{_lua(one)}\nsteps['{one}'] = step" for one in sorted(algorithms)]
    return Script.of("\n".join([_lua("bucket"), "local steps = {}", *steps, _lua(name)]))


def _lua(name: str) -> str:
    file = resources.files(__package__).joinpath(f"{name.replace('-', '_')}.lua")
    return file.read_text(encoding="utf-8")


def consume(
    limits: Iterable[tuple[str, tuple[int, ...], State]], now_ms: int, cost: int
) -> tuple[list[Step], bool]:
    """The steps of some limits, and whether to store them: all of them, or none.

    A limit is the name of its algorithm, the numbers of its rule, and its state.
    """
    steps = [
        STEPS[algorithm](state, now_ms, cost, *numbers) for algorithm, numbers, state in limits
    ]
    return steps, cost != 0 and all(one.outcome.permitted for one in steps)


def replay(algorithm: str, numbers: tuple[int, ...], times: Iterable[int]) -> State:
    """The state of a bucket that has counted requests at these times and nothing else."""
    state: State = ()
    for time in times:
        state = STEPS[algorithm](state, time, 1, *numbers).state or state
    return state
