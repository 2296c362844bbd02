"""A log of every permitted request: exact, at any moment, at the price of its length.

The state is a flat list of times and what was spent at each, oldest first.
"""

from .base import Outcome, State, Step


def step(state: State, now: int, cost: int, window: int, limit: int) -> Step:
    now = max(now, state[-2]) if state else now
    log = [
        (time, spent)
        for time, spent in zip(state[::2], state[1::2], strict=True)
        if now - time < window
    ]
    used = sum(spent for _, spent in log)
    wanted = cost or 1
    if cost >= 0 and used + wanted > limit:
        excess, oldest = used + wanted - limit, 0
        while excess > log[oldest][1]:
            excess -= log[oldest][1]
            oldest += 1
        retry, reset = log[oldest][0] + window - now, log[-1][0] + window - now
        return Step(Outcome(False, used, retry, reset), None, reset)
    if cost < 0 and not log:
        return Step(Outcome(True, 0, 0, 0))
    if cost > 0:
        log.append((now, cost))
    back = min(used, -cost) if cost < 0 else 0
    while back:
        time, spent = log.pop()
        if spent > back:
            log.append((time, spent - back))
        back -= min(spent, back)
    reset = log[-1][0] + window - now if log else 0
    outcome = Outcome(True, sum(spent for _, spent in log), 0, reset)
    return Step(outcome, tuple(n for entry in log for n in entry) if cost else None, window)
