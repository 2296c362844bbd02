"""A log of every permitted request: exact, at any moment.

The state is bytes: ``FORMAT``, then six for each request, the oldest first: the epoch milliseconds
at which it was permitted, big-endian. A cost of three is three requests of one time. A binary
search finds the requests that no longer count, and the next write cuts them off.
"""

from bisect import bisect_right

from .base import Outcome, Step

# No text begins with this byte, so the text that an earlier version stored counts as an empty log.
FORMAT = b"\x01"


def step(state: bytes | tuple[()], now: int, cost: int, window: int, limit: int) -> Step:
    log = state or FORMAT
    count = len(log) // 6

    def time_of(index: int) -> int:
        return int.from_bytes(log[6 * index + 1 : 6 * index + 7], "big")

    newest = time_of(count - 1) if count else 0
    now = max(now, newest)
    gone = bisect_right(range(count), now - window, key=time_of)
    used = count - gone
    reset = newest + window - now if used else 0
    wanted = cost or 1
    if cost >= 0 and used + wanted > limit:
        # The oldest have to expire, as many as there are too many.
        retry = time_of(gone + used + wanted - limit - 1) + window - now
        return Step(Outcome(False, used, retry, reset), None, reset)
    if cost == 0:
        return Step(Outcome(True, used, 0, reset))
    if cost < 0 and used == 0:
        return Step(Outcome(True, 0, 0, 0))
    left = count - min(used, max(0, -cost))
    log = FORMAT + log[6 * gone + 1 : 6 * left + 1] + now.to_bytes(6, "big") * max(0, cost)
    used = len(log) // 6
    reset = time_of(used - 1) + window - now if used else 0
    return Step(Outcome(True, used, 0, reset), log, window, now)


def undo(
    state: bytes | tuple[()], at: int, cost: int, window: int, limit: int
) -> bytes | tuple[()] | None:
    log = state or FORMAT
    times = [log[start : start + 6] for start in range(1, len(log), 6)]
    time = at.to_bytes(6, "big")
    if time not in times:
        return None
    for _ in range(min(cost, times.count(time))):
        times.remove(time)
    return FORMAT + b"".join(times) if times else ()
