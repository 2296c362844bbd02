"""Random walks of every algorithm, on a server and in Python side by side."""

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import redis

from rustauth_django.limits.algorithms import consume
from rustauth_django.limits.algorithms.base import State
from rustauth_django.limits.operations import DECISION
from rustauth_django.limits.rates import ALGORITHM_NAMES, MAX_LOG, RateLimitRule

T = 1_700_000_000_000
# How many bytes each number of a state has on the wire, after one that says the format.
SIZES = {
    "fixed-window": (6, 7),
    "sliding-window": (6, 7, 7),
    "gcra": (7, 6),
}


class Move(NamedTuple):
    """How much later it is, and what is then asked."""

    gap_ms: int
    cost: int


def rule_of(algorithm: str, rng: random.Random) -> RateLimitRule:
    """Some rule of an algorithm, small enough that a walk meets all of its corners."""
    options: dict[str, Any] = {}
    if algorithm == "gcra" and rng.random() < 0.5:
        options["burst"] = rng.randint(1, 9)
    if algorithm == "lockout":
        options["escalate"] = tuple(rng.randint(1, 9) for _ in range(rng.randint(1, 3)))
    window = rng.choice([0.001, rng.randint(1, 3_000) / 1000, rng.randint(1, 10**6)])
    # A log is searched, which a short one would hardly show.
    most = rng.choice([7, 100, MAX_LOG]) if algorithm == "sliding-log" else 7
    return RateLimitRule(window, rng.randint(1, most), algorithm, **options)  # type: ignore[arg-type]


def moves(rule: RateLimitRule, rng: random.Random) -> Iterator[Move]:
    """Steps around the times at which something happens, now and then back in time."""
    window = rule.window_ms
    while True:
        gap = rng.choice(
            [
                *(0, 0, 1, window - 1, window, window + 1),
                *(window // rule.max, window // rule.max + 1),
                *(rng.randint(-window, window), rng.randint(0, 3 * window)),
            ]
        )
        cost = rng.choice([1, 1, 1, 1, rng.randint(1, rule.capacity), 0, -1, -rng.randint(1, 9)])
        yield Move(gap, min(cost, rule.capacity))


class Walk:
    """A rule, a bucket of it at ``key``, and the state that Python has for it."""

    def __init__(self, raw: redis.Redis, key: str, rule: RateLimitRule) -> None:
        self.raw, self.key, self.rule = raw, key, rule
        self.sha = raw.script_load(consume.script_for_one(rule.algorithm).text)
        self.now_ms = T
        self.state: State = ()
        raw.delete(key)

    def take(self, move: Move) -> None:
        """Both sides take a step; they must agree on its outcome and on what is kept."""
        self.now_ms = max(0, self.now_ms + move.gap_ms)
        one = consume.STEPS[self.rule.counted_by](
            self.state, self.now_ms, move.cost, *self.rule.numbers
        )
        arguments = [self.now_ms, move.cost, 10**6, *self.rule.arguments]
        command = ("EVALSHA", self.sha, 1, self.key, *arguments)
        reply: bytes = self.raw.execute_command(*command, NEVER_DECODE=True)
        told = (*one.outcome, one.counted_at_ms)
        assert DECISION.unpack(reply) == told, (self.rule, self.state, move)
        with self.raw.pipeline(transaction=False) as pipe:
            # The server drops a short-lived bucket by its own clock, not by the walk's.
            ttl_ms, _ = pipe.pttl(self.key).persist(self.key).execute()
        if one.outcome.permitted and one.state is not None and move.cost:
            self.state = one.state
            assert ttl_ms >= 10**6 - 1_000
        assert self.stored() == self.state, (self.rule, move)

    def stored(self) -> State:
        if self.rule.algorithm == "rustauth":
            texts = self.raw.hmget(self.key, "count", "last_request")
            return tuple(int(text) for text in texts if text is not None)
        command = ("HGET", self.key, self.rule.slot)
        packed: bytes | None = self.raw.execute_command(*command, NEVER_DECODE=True)
        if packed is None or self.rule.algorithm == "sliding-log":
            return packed or ()
        sizes = SIZES.get(self.rule.algorithm, (2, 7, 7, *[6] * ((len(packed) - 17) // 6)))
        assert packed[0] == (1 if self.rule.algorithm in SIZES else 2)
        numbers, at = [], 1
        for size in sizes:
            numbers.append(int.from_bytes(packed[at : at + size], "big"))
            at += size
        assert at == len(packed)
        return tuple(numbers)


def run(raw: redis.Redis, key: str, algorithm: str, steps: int, seed: int) -> None:
    """So many steps of one algorithm, with a new rule every hundred."""
    assert algorithm in ALGORITHM_NAMES
    rng = random.Random(seed)
    for start in range(0, steps, 100):
        walk = Walk(raw, key, rule_of(algorithm, rng))
        for _, move in zip(range(min(100, steps - start)), moves(walk.rule, rng), strict=False):
            walk.take(move)
