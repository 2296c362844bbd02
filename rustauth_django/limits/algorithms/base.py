"""The interface of an algorithm: one pure step, in Python here and in Lua on the server.

All arithmetic is in integers, all times are milliseconds. A step gets

- ``state``, the integers or the bytes that were stored, or ``()`` for a new bucket,
- ``now``, the time in epoch milliseconds,
- ``cost``: above zero it is spent, all or nothing; zero only looks, and answers as for a request of
  cost one; below zero it is given back,
- the numbers of the rule: window, capacity, and whatever else the algorithm needs,

and returns a ``Step``. A refusal keeps nothing: it can't extend itself, and memory does
not grow with it. Time never moves backwards in a bucket (QUIRK-10).

Beside it stands ``undo``, which gets the state, the time at which a request was counted, its
cost, and the rule's numbers. It returns the state as if that request had never come: ``()`` if
nothing is left, None if the request does not count any more.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

State: TypeAlias = tuple[int, ...] | bytes


class Outcome(NamedTuple):
    """How much of the capacity is used after this step, and the milliseconds until it permits, and
    until all of it is free.
    """

    permitted: bool
    used: int
    retry_ms: int
    reset_ms: int


class Step(NamedTuple):
    """An outcome, the state to store (None if it did not change), for how long, and the time of the
    count.
    """

    outcome: Outcome
    state: State | None = None
    keep_ms: int = 0
    counted_at_ms: int = 0


StepFunction: TypeAlias = Callable[..., Step]
UndoFunction: TypeAlias = Callable[..., State | None]


def ceil_div(dividend: int, divisor: int) -> int:
    """The quotient, rounded up."""
    return -(-dividend // divisor)
