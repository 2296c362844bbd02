"""For failed attempts: a full window starts a block, which is longer each time.

The ``max``-th attempt within any window starts the block, whose length is the next of ``escalate``;
an attempt during a block is refused and changes nothing. After a pause of a window and the longest
block, the next block has the first length again. The state is how many blocks there were, when the
last one ends and when the one before it did, and the time of each attempt that counts. The attempts
that began a block stay in the state until the next one counts, so that the block can be undone if
one of them did not count after all.
"""

from .base import Outcome, State, Step

MAX_LEVEL = 2**16 - 1


def step(state: State, now: int, cost: int, window: int, limit: int, *blocks: int) -> Step:
    level, until, before, *times = state or (0, 0, 0)
    now = max(now, times[-1]) if times else now
    quiet = window + blocks[-1]
    if now < until:
        left = until - now
        return Step(Outcome(cost < 0, limit, 0 if cost < 0 else left, left), None, left + quiet)
    if now - until >= quiet:
        level = 0
    # A full list has begun a block, which is over now.
    times = [] if len(times) >= limit else [time for time in times if now - time < window]
    left = (times[-1] if times else now) + window - now
    if cost >= 0 and (excess := len(times) + (cost or 1) - limit) > 0:
        # As many of the oldest have to expire.
        retry = times[excess - 1] + window - now
        return Step(Outcome(False, len(times), retry, left), None, left + quiet)
    if cost < 0 and not times:
        return Step(Outcome(True, 0, 0, 0))
    times = [*times, *[now] * cost] if cost > 0 else times[: max(0, len(times) + cost)]
    used = len(times)
    left = (times[-1] if times else now) + window - now
    if used == limit:
        left = blocks[min(level, len(blocks) - 1)]
        level, until, before = min(level + 1, MAX_LEVEL), now + left, until
    outcome = Outcome(True, used, 0, left if used else 0)
    new_state = (level, until, before, *times) if cost else None
    return Step(outcome, new_state, left + quiet, now)


def undo(state: State, at: int, cost: int, window: int, limit: int, *blocks: int) -> State | None:
    """Take the attempt back, and with it the block that it completed and that block's step of
    escalation.
    """
    level, until, before, *times = state
    if at not in times:
        return None
    if len(times) >= limit:
        level, until = max(0, level - 1), before
    for _ in range(min(cost, times.count(at))):
        times.remove(at)
    return (level, until, before, *times) if times or level else ()
