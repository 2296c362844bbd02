"""Fixed windows: at most ``max`` requests in each, which begins with its first request.

The state is when the window began and what it has permitted. It is cheap and easy to explain, but
around a window's end twice ``max`` can come together.
"""

from .base import Outcome, State, Step


def step(state: State, now: int, cost: int, window: int, limit: int) -> Step:
    start, count = state or (now, 0)
    now = max(now, start)
    if now - start >= window:
        start, count = now, 0
    left = start + window - now
    if cost >= 0 and count + (cost or 1) > limit:
        return Step(Outcome(False, count, left, left), None, left)
    if cost < 0 and count == 0:
        return Step(Outcome(True, 0, 0, 0))
    count = max(0, count + cost)
    outcome = Outcome(True, count, 0, left if count else 0)
    return Step(outcome, (start, count) if cost else None, left, now)


def undo(state: State, at: int, cost: int, window: int, limit: int) -> State | None:
    start, count = state
    if not 0 <= at - start < window:
        return None
    return (start, count - cost) if count > cost else ()
