"""The RustAuth window: at most ``max`` requests with no gap longer than the window.

Each permitted request restarts the window, so a bucket is empty again only after a pause longer
than the window (RL-08 to RL-12, QUIRK-06). The state is RustAuth's own: the permitted requests and
the time of the last of them.
"""

from .base import Outcome, State, Step


def step(state: State, now: int, cost: int, window: int, limit: int) -> Step:
    count, last = state or (0, now)
    now = max(now, last)
    if now - last > window:
        count, last = 0, now
    if cost >= 0 and count > 0 and count + (cost or 1) > limit:
        left = last + window - now
        return Step(Outcome(False, count, left, left), None, window)
    if cost > 0:
        count, last = count + cost, now
    elif count > 0:
        count = max(0, count + cost)
    elif cost < 0:
        return Step(Outcome(True, 0, 0, 0))
    left = last + window - now if count else 0
    return Step(Outcome(True, count, 0, left), (count, last) if cost else None, window, now)


def undo(state: State, at: int, cost: int, window: int, limit: int) -> State | None:
    """Take back the count; the window that the request restarted stays."""
    count, last = state
    if not 0 <= last - at <= window:
        return None
    return (count - cost, last) if count > cost else ()
