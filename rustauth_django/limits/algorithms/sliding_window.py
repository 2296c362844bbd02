"""A sliding window made of two counters: the count of the previous window fades out evenly during
this one.

The state is when this window began, its count, and the count of the previous window: three numbers,
whatever the limit. Fractions of a request are rounded in the client's favour.
"""

from .base import Outcome, State, Step


def step(state: State, now: int, cost: int, window: int, limit: int) -> Step:
    start, count, before = state or (now, 0, 0)
    now = max(now, start)
    if now - start >= 2 * window:
        start, count, before = now, 0, 0
    elif now - start >= window:
        start, count, before = start + window, 0, count
    left = start + window - now
    used = count + faded(before, left, window)
    wanted = cost or 1
    if cost >= 0 and used + wanted > limit:
        room = limit - wanted - count
        if room >= 0:
            # Until the previous window's count has faded enough.
            retry = left - fades_to(room, before, window)
        else:
            # Not in this window, and in the next one not before this window's count has faded
            # enough.
            retry = left + window - fades_to(limit - wanted, count, window)
        return Step(Outcome(False, used, retry, _whole(left, window, count)), None, left + window)
    if cost < 0:
        if used == 0:
            return Step(Outcome(True, 0, 0, 0))
        before = max(0, before + min(0, count + cost))
    count = max(0, count + cost)
    used = count + faded(before, left, window)
    reset = _whole(left, window, count) if used else 0
    new_state = (start, count, before) if cost else None
    return Step(Outcome(True, used, 0, reset), new_state, left + window, now)


def faded(before: int, left: int, window: int) -> int:
    """How much of the previous window still counts, with so much left of this one."""
    return before * (left - 1) // window


def fades_to(room: int, before: int, window: int) -> int:
    """The time left of a window at which no more than ``room`` of the previous one still counts."""
    return ((room + 1) * window - 1) // before + 1


def _whole(left: int, window: int, count: int) -> int:
    return left + window if count else left


def undo(state: State, at: int, cost: int, window: int, limit: int) -> State | None:
    start, count, before = state
    if 0 <= at - start < window:
        count = max(0, count - cost)
    elif 0 < start - at <= window:
        before = max(0, before - cost)
    else:
        return None
    return (start, count, before) if count or before else ()
