"""Lua and Python are one algorithm, and each algorithm does what its name says."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rustauth_django import InvalidConfig, RateLimitRule, RustAuthStores
from rustauth_django.engine.backends import MemoryBackend
from rustauth_django.engine.operations import InvalidReply
from rustauth_django.limits.algorithms import consume
from rustauth_django.limits.operations import Attempt, Ending, Settle
from rustauth_django.limits.rates import ALGORITHM_NAMES, MAX_LOG, MAX_PRODUCT
from rustauth_django.limits.store import RateLimitStore

from . import walks
from .faces import Face
from .servers import Server

T = 1_700_000_000_000
SECOND = 1_000


@pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
@given(seed=st.integers(0, 2**32))
@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_lua_and_python_agree(raw: redis.Redis, prefix: str, algorithm: str, seed: int) -> None:
    """RL-08 to RL-12 and the like: random times, rules and costs; same outcome and state."""
    walks.run(raw, prefix, algorithm, 200, seed)


@pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
def test_lua_and_python_agree_on_the_largest_rules(
    raw: redis.Redis, prefix: str, algorithm: str
) -> None:
    """Where doubles are about to lose whole numbers."""
    rng = random.Random(algorithm)
    most = 900 if algorithm in ("sliding-log", "lockout") else 2**31
    options: dict[str, Any] = {"escalate": (1, 2**40)} if algorithm == "lockout" else {}
    rule = RateLimitRule(MAX_PRODUCT // most / 1000, most, algorithm, **options)  # type: ignore[arg-type]
    walk = walks.Walk(raw, prefix, rule)
    for _, move in zip(range(60), walks.moves(rule, rng), strict=False):
        walk.take(move)


def test_several_limits_agree(server_stores: RustAuthStores, prefix: str) -> None:
    """All or nothing is the same on a server and in memory, for any limits, keys and costs."""
    memory = RateLimitStore(MemoryBackend(clock=lambda: T))
    for seed in range(10):
        rng = random.Random(seed)
        rules = [walks.rule_of(name, rng) for name in rng.choices(ALGORITHM_NAMES, k=4)]
        # A bucket of the server's ends by the server's clock, which is not the walk's.
        limits = [
            (f"{seed}-{index % 3}", replace(rule, window=3600)) for index, rule in enumerate(rules)
        ]
        limits = list({(key, rule.slot): (key, rule) for key, rule in limits}.values())
        most, now = min(rule.capacity for _, rule in limits), T
        for _ in range(30):
            now = max(T, now + rng.randint(-1_000_000, 3_000_000))
            cost = rng.choice([1, 1, rng.randint(1, most), 0, -1])
            here, there = (
                store.backend.run(replace(store.inspection(limits, now), cost=cost))
                for store in (memory, server_stores.rate_limit_store)
            )
            assert here == there, (seed, limits, cost)


def rule_of(algorithm: str, window: int = 10, max: int = 3) -> RateLimitRule:
    escalate = (30, 60) if algorithm == "lockout" else ()
    return RateLimitRule(window, max, algorithm, escalate=escalate)  # type: ignore[arg-type]


@pytest.fixture(params=ALGORITHM_NAMES)
def algorithm(request: pytest.FixtureRequest) -> str:
    return request.param


def test_every_algorithm_permits_max_at_once(limits: Face, algorithm: str) -> None:
    """And what is refused is permitted at the moment that the refusal said, not before."""
    rule = rule_of(algorithm)
    assert [limits.consume("key", rule, T).remaining for _ in range(3)] == [2, 1, 0]
    refused = limits.consume("key", rule, T)
    assert (refused.permitted, refused.remaining) == (False, 0)
    wait = refused.retry_after_ms + (algorithm == "rustauth")
    assert not limits.consume("key", rule, T + wait - 1).permitted
    assert limits.consume("key", rule, T + wait).permitted


def test_refusals_change_nothing(limits: Face, algorithm: str) -> None:
    """RL-12: who hammers is let in when one that waits would be."""
    rule = rule_of(algorithm)
    limits.consume("key", rule, T, cost=3)
    wait = limits.consume("key", rule, T).retry_after_ms + (algorithm == "rustauth")
    for ms in range(0, wait, 777):
        assert not limits.consume("key", rule, T + ms).permitted
    assert limits.consume("key", rule, T + wait).permitted


def test_peek_changes_nothing(limits: Face, algorithm: str) -> None:
    """However often, before and after."""
    rule = rule_of(algorithm)
    fresh = limits.peek("key", rule, T)
    assert (fresh.permitted, fresh.remaining, fresh.reset_after) == (True, 3, 0)
    limits.consume("key", rule, T)
    assert {limits.peek("key", rule, T).remaining for _ in range(5)} == {2}
    limits.consume("key", rule, T, cost=2)
    peeked = limits.peek("key", rule, T)
    assert not peeked.permitted
    assert peeked == limits.consume("key", rule, T)


def test_a_refund_gives_back_and_no_more(limits: Face, algorithm: str) -> None:
    """Never above the limit, and nothing of a window that is over."""
    rule = rule_of(algorithm)
    assert limits.refund("key", rule, 1, T).remaining == 3
    limits.consume("key", rule, T, cost=2)
    assert limits.refund("key", rule, 1, T).remaining == 2
    assert limits.refund("key", rule, 99, T).remaining == 3
    assert limits.consume("key", rule, T, cost=2).remaining == 1
    assert limits.refund("key", rule, 2, T + 25 * SECOND).remaining == 3
    assert limits.peek("key", rule, T + 25 * SECOND).reset_after == 0


def test_reset_forgets_every_rule_of_a_key(limits: Face) -> None:
    """Whatever algorithm counted there."""
    for name in ALGORITHM_NAMES:
        limits.consume("key", rule_of(name), T, cost=3)
    assert limits.reset("key") is True
    assert all(limits.peek("key", rule_of(name), T).remaining == 3 for name in ALGORITHM_NAMES)
    assert limits.reset("key") is False


def test_fixed_window_begins_with_its_first_request(limits: Face) -> None:
    """And is whole again when it ends."""
    rule = rule_of("fixed-window")
    limits.consume("key", rule, T)
    limits.consume("key", rule, T + 9_999, cost=2)
    assert limits.consume("key", rule, T + 9_999).retry_after_ms == 1
    assert limits.consume("key", rule, T + 10_000).remaining == 2


def test_sliding_window_fades_the_one_before(limits: Face) -> None:
    """In proportion to what is left of this one; fractions are the client's."""
    rule = rule_of("sliding-window", window=10, max=10)
    limits.consume("key", rule, T, cost=10)
    assert limits.consume("key", rule, T).retry_after_ms == 10_000
    assert limits.peek("key", rule, T + 10_000).remaining == 1
    assert limits.peek("key", rule, T + 14_999).remaining == 5
    assert limits.peek("key", rule, T + 15_000).remaining == 6
    assert limits.consume("key", rule, T + 15_000, cost=6).remaining == 0
    assert limits.consume("key", rule, T + 15_000).retry_after_ms == 1_000
    assert limits.peek("key", rule, T + 30_000).remaining == 10


@pytest.mark.parametrize("max", [1, 2, 3, 10])
def test_sliding_window_is_no_slower_than_it_says(limits: Face, max: int) -> None:
    """Whoever asks whenever it is permitted gets ``max`` in each window, from the first on."""
    rule = rule_of("sliding-window", window=60, max=max)
    now, permitted = T, 0
    while now < T + 5 * 60 * SECOND:
        decision = limits.consume("key", rule, now)
        permitted += decision.permitted
        now += decision.retry_after_ms
    assert permitted == 5 * max


def test_sliding_log_is_exact(limits: Face) -> None:
    """Each request counts for one window, to the millisecond."""
    rule = rule_of("sliding-log")
    for ms in (0, 4_000, 8_000):
        limits.consume("key", rule, T + ms)
    assert limits.consume("key", rule, T + 9_999).retry_after_ms == 1
    assert limits.consume("key", rule, T + 10_000).permitted
    assert limits.consume("key", rule, T + 10_000).retry_after_ms == 4_000
    assert limits.consume("key", rule, T + 10_000, cost=2).retry_after_ms == 8_000


def spent_in_window(spent: list[tuple[int, int]], now: int, rule: RateLimitRule) -> int:
    return sum(cost for time, cost in spent if now - time < rule.window_ms)


WRITTEN = [RateLimitRule(10, 1), RateLimitRule(10, 7), RateLimitRule(10, MAX_LOG + 1)]


@pytest.mark.parametrize("rule", [rule.as_written() for rule in WRITTEN], ids=str)
@pytest.mark.parametrize("place", ["memory", "server"])
def test_who_stays_within_a_limit_is_never_refused(
    one_server: Server, prefix: str, place: str, rule: RateLimitRule
) -> None:
    """A limit means what it says, at random times: bursts, pauses and a steady trickle."""
    rng = random.Random(rule.max)
    url = "memory://" if place == "memory" else one_server.url
    spent, now = list[tuple[int, int]](), T
    with RustAuthStores.from_url(url, key_prefix=prefix) as stores:
        for _ in range(1_500):
            now += rng.choice([0, 1, rng.randint(0, 10_000 // rule.max), rng.randint(0, 20_000)])
            room = rule.max - spent_in_window(spent[-rule.max :], now, rule)
            if room:
                cost = rng.choice([1, rng.randint(1, room), room])
                assert stores.rate_limit_store.consume("key", rule, now, cost=cost).permitted
                spent.append((now, cost))
    assert len(spent) > 300


@pytest.mark.parametrize("rule", [rule.as_written() for rule in WRITTEN], ids=str)
@pytest.mark.parametrize("place", ["memory", "server"])
def test_no_window_has_more_than_its_limit(
    one_server: Server, prefix: str, place: str, rule: RateLimitRule
) -> None:
    """Whoever asks for more gets ``max`` in any window, and of fixed windows at most twice that."""
    rng = random.Random(rule.max)
    url = "memory://" if place == "memory" else one_server.url
    spent, now, most = list[tuple[int, int]](), T, 0
    with RustAuthStores.from_url(url, key_prefix=prefix) as stores:
        for _ in range(1_500):
            now += rng.choice([0, 1, rng.randint(0, 12_000 // min(rule.max, 20))])
            cost = rng.randint(1, max(1, rule.max // 3))
            if stores.rate_limit_store.consume("key", rule, now, cost=cost).permitted:
                spent.append((now, cost))
                most = max(most, spent_in_window(spent[-2 * rule.max :], now, rule))
    if rule.counted_by == "sliding-log":
        assert most == rule.max
    else:
        assert rule.max < most <= 2 * rule.max


class PlainLog:
    """What a log is, without regard to what it costs: a list of times."""

    def __init__(self, rule: RateLimitRule) -> None:
        self.rule, self.times = rule, list[int]()

    def step(self, now: int, cost: int) -> tuple[bool, int, int, int]:
        now = max([now, *self.times])
        times = [time for time in self.times if time > now - self.rule.window_ms]
        over = len(times) + (cost or 1) - self.rule.max
        permitted = cost < 0 or over <= 0
        retry = 0 if permitted else times[over - 1] + self.rule.window_ms - now
        if permitted and (cost > 0 or (cost < 0 and times)):
            times = times[: max(0, len(times) + min(0, cost))] + [now] * cost
            self.times = times
        reset = times[-1] + self.rule.window_ms - now if times else 0
        return permitted, len(times), retry, reset


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_sliding_log_is_a_list_of_times(seed: int) -> None:
    """However it is packed and searched: same decisions at any times and costs."""
    rng = random.Random(seed)
    rule = walks.rule_of("sliding-log", rng)
    plain, state, now = PlainLog(rule), b"", T
    for _, move in zip(range(200), walks.moves(rule, rng), strict=False):
        now = max(0, now + move.gap_ms)
        outcome, new_state, *_ = consume.STEPS[rule.counted_by](
            state, now, move.cost, *rule.numbers
        )
        assert outcome == plain.step(now, move.cost), (rule, plain.times, move)
        state = state if new_state is None else new_state


def test_sliding_log_is_small(server_stores: RustAuthStores, raw: redis.Redis) -> None:
    """Six bytes for each request that still counts, and nothing for one that does not."""
    store, rule = server_stores.rate_limit_store, RateLimitRule(3600, 100, "sliding-log")
    physical = store.keyspaces[1].physical("key")
    for hours in range(5):
        for _ in range(100):
            assert store.consume("key", rule, T + hours * 3600 * SECOND).permitted
        assert raw.hstrlen(physical, rule.slot) == 1 + 6 * 100
        assert raw.memory_usage(physical) < 900 + len(physical)
    assert store.consume("key", rule, T + 6 * 3600 * SECOND).remaining == 99
    assert raw.hstrlen(physical, rule.slot) == 1 + 6


def test_gcra_refills_evenly_and_holds_a_burst(limits: Face) -> None:
    """One request each window / max, and ``burst`` at once after a pause."""
    rule = RateLimitRule(10, 5, "gcra", burst=2)
    assert limits.consume("key", rule, T, cost=2).limit == 2
    assert limits.consume("key", rule, T).retry_after_ms == 2_000
    for i in range(1, 20):
        assert not limits.consume("key", rule, T + i * 2_000 - 1).permitted
        assert limits.consume("key", rule, T + i * 2_000).permitted
    assert limits.peek("key", rule, T + 60_000).remaining == 2


def test_lockout_blocks_for_longer_each_time(limits: Face) -> None:
    """And starts over after a quiet time of a window and the longest block."""
    rule = rule_of("lockout")
    now = T
    for seconds in (30, 60, 60):
        assert [limits.consume("key", rule, now).permitted for _ in range(4)] == [True] * 3 + [
            False
        ]
        assert limits.peek("key", rule, now).retry_after == seconds
        now += seconds * SECOND
    now += 70 * SECOND
    limits.consume("key", rule, now, cost=3)
    assert limits.peek("key", rule, now).retry_after == 30


def test_lockout_counts_within_any_window(limits: Face) -> None:
    """And not only in windows that begin with an attempt: two late ones and one more are three."""
    rule = rule_of("lockout")
    assert limits.consume("key", rule, T).permitted
    late = T + rule.window_ms - 1
    permitted = [limits.consume("key", rule, late + i).permitted for i in range(4)]
    assert permitted == [True, True, True, False]
    limits.reset("key")
    limits.consume("key", rule, T)
    assert limits.consume("key", rule, late, cost=2).remaining == 0
    limits.reset("key")
    limits.consume("key", rule, T)
    limits.consume("key", rule, T + 10)
    refused = limits.consume("key", rule, T + 10, cost=3)
    assert (refused.permitted, refused.retry_after_ms) == (False, rule.window_ms)
    assert limits.consume("key", rule, T + rule.window_ms, cost=2).permitted


def test_an_undone_attempt_takes_its_block_and_its_step_along(limits: Face) -> None:
    """Whichever of those that began it; one that is over stays a step of escalation."""
    rule = rule_of("lockout")
    settle = Face(limits.target.backend, limits.runner)
    limits.consume("key", rule, T, cost=3)
    now = T + 30 * SECOND
    for gone in range(3):
        attempts = [limits.consume("key", rule, now + index).counted_at_ms for index in range(3)]
        assert limits.peek("key", rule, now + 3).retry_after == 60
        (bucket,) = limits.target.attempt([("key", rule)]).buckets
        attempt = Attempt(bucket, attempts[gone], "undo")
        assert settle.run(Settle((attempt,))) == 1
        assert settle.run(Settle((attempt,))) == 0, "once"
        assert limits.peek("key", rule, now + 3).remaining == 1
        limits.refund("key", rule, 2, now + 4)
        now += 10


def test_what_is_forgiven_is_forgiven_once(limits: Face) -> None:
    """The second time it changes nothing, and says so; nor where only others are under way."""
    settle = Face(limits.target.backend, limits.runner)
    for name in ALGORITHM_NAMES:
        rule = rule_of(name)
        (bucket,) = limits.target.attempt([(name, rule)], [name]).buckets
        limits.consume(name, rule)
        forgive = Settle((Attempt(bucket, 0, "forgive"),))
        assert [settle.run(forgive) for _ in range(2)] == [1, 0]
        settle.run(limits.target.attempt([(name, rule)], [name]))
        assert settle.run(forgive) == 0
        assert limits.peek(name, rule).remaining == 2


def test_a_settled_attempt_makes_no_bucket(limits: Face) -> None:
    """That has ended meanwhile, or was reset."""
    settle = Face(limits.target.backend, limits.runner)
    for name in ALGORITHM_NAMES:
        (bucket,) = limits.target.attempt([(name, rule_of(name))], [name]).buckets
        for ending in get_args(Ending):
            assert settle.run(Settle((Attempt(bucket, T, ending),))) == 0
        assert limits.peek(name, rule_of(name), T).remaining == 3
        assert not limits.reset(name)


@pytest.mark.parametrize("junk", ["x", "x" * 7, "\x02", "\xff" * 40])
def test_a_garbled_attempt_counts_as_none(
    raw: redis.Redis, server_stores: RustAuthStores, junk: str
) -> None:
    """Neither the state nor the attempts under way stop anything from being settled."""
    store, run = server_stores.rate_limit_store, server_stores.backend.run
    for name in ALGORITHM_NAMES:
        rule = rule_of(name)
        (bucket,) = store.attempt([(name, rule)], [name]).buckets
        for ending in get_args(Ending):
            for field in (rule.slot or "count", bucket.waiting):
                raw.hset(bucket.physical, field, junk)
                raw.pexpire(bucket.physical, 60_000)
                (decision,) = run(store.attempt([(name, rule)], [name]))
                assert decision.permitted
                raw.hset(bucket.physical, field, junk)
                run(Settle((Attempt(bucket, decision.counted_at_ms, ending),)))
                raw.delete(bucket.physical)


def test_a_refused_flood_takes_no_memory(raw: redis.Redis, server_stores: Any) -> None:
    """Whatever the algorithm, a bucket is as large after a thousand refusals as before."""
    store = server_stores.rate_limit_store
    for name in ALGORITHM_NAMES:
        rule = rule_of(name)
        store.consume(name, rule, cost=3)
    keys = raw.keys(f"{store.keyspaces[0].prefix}*")
    before = [raw.memory_usage(key) for key in keys]
    for name in ALGORITHM_NAMES:
        for _ in range(200):
            assert not store.consume(name, rule_of(name)).permitted
    assert [raw.memory_usage(key) for key in keys] == before
    assert all(raw.pttl(key) > 0 for key in keys)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RateLimitRule(1, 1, "token-bucket"), "algorithm must be one of rustauth, fixed"),  # type: ignore[arg-type]
        (lambda: RateLimitRule(1, 1, burst=3), "burst must be"),
        (lambda: RateLimitRule(1, 1, "gcra", burst=0), "burst must be greater than zero"),
        (lambda: RateLimitRule(1, 1, "lockout"), "escalate is for lockout, which needs it"),
        (lambda: RateLimitRule(1, 1, "gcra", escalate=(1,)), "escalate is for lockout"),
        (
            lambda: RateLimitRule(1, 1001, "lockout", escalate=(1,)),
            "max must be at most 1000 for lockout",
        ),
        (lambda: RateLimitRule(1, 1, "lockout", escalate=(0,)), "escalate must be 1 to 16"),
        (lambda: RateLimitRule(1, 1, "lockout", escalate=(1,) * 17), "escalate must be 1 to 16"),
        (lambda: RateLimitRule(1, 1_001, "sliding-log"), "max must be at most 1000"),
        (lambda: RateLimitRule(2**30, 2**30, "gcra"), "max times window is too large for gcra"),
        (
            lambda: RateLimitRule(2**20, 1, "gcra", burst=2**30),
            "max times window is too large for gcra",
        ),
    ],
)
def test_rules_that_no_algorithm_can_apply(make: Callable[[], RateLimitRule], message: str) -> None:
    """Told before any I/O, in the words of the argument."""
    rule = make()
    with pytest.raises(InvalidConfig, match=f"rate limit {message}"):
        rule.validate()


def test_wrong_types_of_options_are_a_type_error() -> None:
    """As everywhere, when the rule is made."""
    for options in [
        {"algorithm": 3},
        {"burst": True},
        {"burst": "3"},
        {"escalate": 60},
        {"escalate": (1.5,)},
    ]:
        with pytest.raises(TypeError):
            RateLimitRule(1, 1, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
def test_a_rule_is_known_by_its_name(algorithm: str) -> None:
    """The field's name on the wire says which rule counts in it."""
    rule = rule_of(algorithm)
    assert RateLimitRule.named(rule.name) == rule
    for name in (
        "",
        "gcra",
        "gcra:1",
        "gcra:x:1",
        "gcra:01:1000",
        "gcra:1:1000:0",
        "nobody:1:1",
        "gcra:1:2:3:4",
        f"gcra:1:{10**400}",
    ):
        with pytest.raises((ValueError, InvalidConfig)):  # int()'s own, among them
            RateLimitRule.named(name)


@pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
def test_attempts_are_settled_alike(
    server_stores: RustAuthStores, prefix: str, algorithm: str
) -> None:
    """On a server and in memory: whatever is undone, kept and forgiven, and in what order."""
    now = T
    memory = RateLimitStore(MemoryBackend(clock=lambda: T))
    for seed in range(10):
        rng = random.Random(seed)
        rule = replace(walks.rule_of(algorithm, rng), window=rng.choice([5, 3600]))
        limit, noted = [(str(seed), rule)], rng.choice([[], [str(seed)]])
        stores = (memory, server_stores.rate_limit_store)
        under_way: list[int] = []
        for _ in range(60):
            now += rng.choice([0, 0, 1, 700, 5_000])
            if rng.random() < 0.6 or not under_way:
                here, there = (
                    store.backend.run(store.attempt(limit, noted, now))[0] for store in stores
                )
                assert (here, here.counted_at_ms) == (there, there.counted_at_ms)
                under_way += [here.counted_at_ms] * here.permitted
                continue
            at = under_way.pop(rng.randrange(len(under_way)))
            ending: Ending = rng.choice(["undo", "undo", "keep", "forgive"])
            changed = [
                store.backend.run(Settle((Attempt(bucket, at, ending),)))
                for store in stores
                for bucket in store.attempt(limit, noted).buckets
            ]
            assert changed[0] == changed[1], (seed, rule, ending)
            here, there = (store.peek(str(seed), rule, now) for store in stores)
            assert here == there, (seed, rule, ending)


@pytest.mark.parametrize("algorithm", ["sliding-log", "lockout"])
def test_what_was_undone_has_never_been(limits: Face, algorithm: Any) -> None:
    """Whenever it is undone, as long as it counts: the others are decided as without it."""
    escalate = (30, 60) if algorithm == "lockout" else ()
    rule = RateLimitRule(60, 3, algorithm, escalate=escalate)
    store = limits.target
    for seed in range(30):
        rng, with_it, without_it = random.Random(seed), f"with-{seed}", f"without-{seed}"
        times = sorted(rng.sample(range(0, 40_000, 1_000), 3))
        gone = rng.randrange(3)
        for index, time in enumerate(times):
            decision = limits.consume(with_it, rule, T + time)
            if index == gone:
                at = decision.counted_at_ms
            else:
                limits.consume(without_it, rule, T + time)
        (bucket,) = store.attempt([(with_it, rule)]).buckets
        assert Face(store.backend, limits.runner).run(Settle((Attempt(bucket, at, "undo"),))) == 1
        for later in range(41_000, 300_000, 7_000):
            one = limits.consume(with_it, rule, T + later)
            assert one == limits.consume(without_it, rule, T + later), (seed, later)


@pytest.mark.parametrize("reply", [None, 1, b"", b"x" * 24, b"x" * 50, [1, 1, 0, 0], "x" * 25])
def test_a_strange_reply_is_invalid(unconnected: RustAuthStores, reply: Any) -> None:
    """RL-28: told by name, never guessed at."""
    operation = unconnected.rate_limit_store.consumption([("key", rule_of("gcra"))])
    with pytest.raises(InvalidReply, match="a decision on each limit"):
        operation.answer(reply)
