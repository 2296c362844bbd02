"""GCRA, also known as a token bucket or a leaky bucket.

A bucket leaks ``max`` requests in each window, evenly, and has room for ``burst`` of them.
The state is how full it is, and when that was. So that a request is a whole number, it is
measured in units of which a request is ``window`` and a millisecond's leak is ``max``.
"""

from .base import Outcome, State, Step, ceil_div


def step(state: State, now: int, cost: int, window: int, limit: int, rate: int) -> Step:
    level, last = state or (0, now)
    now = max(now, last)
    level = max(0, level - (now - last) * rate)
    over = level + ((cost or 1) - limit) * window
    if cost >= 0 and over > 0:
        used, reset = ceil_div(level, window), ceil_div(level, rate)
        return Step(Outcome(False, used, ceil_div(over, rate), reset), None, reset)
    if cost < 0 and level == 0:
        return Step(Outcome(True, 0, 0, 0))
    level = max(0, level + cost * window)
    used, reset = ceil_div(level, window), ceil_div(level, rate)
    return Step(Outcome(True, used, 0, reset), (level, now) if cost else None, reset, now)


def undo(state: State, at: int, cost: int, window: int, limit: int, rate: int) -> State | None:
    """Take back what has not leaked since: all of it, unless the bucket was empty meanwhile."""
    level, last = state
    if at > last:
        return None
    left = level - max(0, cost * window - (last - at) * rate)
    return (left, last) if left > 0 else ()
