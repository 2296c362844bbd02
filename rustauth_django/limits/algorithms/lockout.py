"""A window that ends in a block, a longer one each time: for failed attempts.

The ``max``-th attempt in a window starts the block, whose length is the next of
``escalate``; what comes during a block is refused and changes nothing. After a quiet time of
a window and the longest block, the first length is next again. The state is what this
window has counted, when it began, how many blocks there were, and when the last one ends.
"""

from .base import Outcome, State, Step


def step(state: State, now: int, cost: int, window: int, limit: int, *blocks: int) -> Step:
    count, start, level, until = state or (0, now, 0, 0)
    now = max(now, start)
    quiet = window + blocks[-1]
    if now < until:
        left = until - now
        return Step(Outcome(cost < 0, limit, 0 if cost < 0 else left, left), None, left + quiet)
    if now - until >= quiet:
        level = 0
    if now - start >= window:
        count, start = 0, now
    left = start + window - now
    if cost >= 0 and count + (cost or 1) > limit:
        return Step(Outcome(False, count, left, left), None, left + quiet)
    if cost < 0 and count == 0:
        return Step(Outcome(True, 0, 0, 0))
    used = count = max(0, count + cost)
    if count == limit:
        left = blocks[min(level, len(blocks) - 1)]
        count, level, until = 0, level + 1, now + left
    outcome = Outcome(True, used, 0, left if used else 0)
    return Step(outcome, (count, start, level, until) if cost else None, left + quiet)
