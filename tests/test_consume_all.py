"""Several limits at once: all of them count, or none does."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from rustauth_django import InvalidConfig, RateLimitRule, RustAuthStores
from rustauth_django.limits.rates import ALGORITHM_NAMES

from .faces import Face
from .servers import PATIENT, Server

T = 1_700_000_000_000
MINUTE = RateLimitRule.parse("3/m")
HOUR = RateLimitRule.parse("5/h")
RUSTAUTH = RateLimitRule(10, 4)


def test_nothing_is_spent_if_one_refuses(limits: Face) -> None:
    """Of one subject's limits, whichever of them it is."""
    both = [("key", MINUTE), ("key", HOUR)]
    for left in (2, 1, 0):
        assert limits.consume_all(both, T).remaining == left
    for _ in range(9):
        refused = limits.consume_all(both, T + 1_000)
        assert (refused.permitted, refused.rule, refused.key) == (False, MINUTE, "key")
    assert limits.peek("key", HOUR, T + 1_000).remaining == 2
    for _ in range(2):
        assert limits.consume_all(both, T + 120_000).permitted
    refused = limits.consume_all(both, T + 120_000)
    assert (refused.permitted, refused.rule) == (False, HOUR)
    assert limits.peek("key", MINUTE, T + 120_000).remaining == 1


def test_the_binding_decision_is_the_answer(limits: Face) -> None:
    """The one with least left; of refusals the longest."""
    both = [("address", HOUR), ("account", MINUTE)]
    decision = limits.consume_all(both, T)
    assert (decision.key, decision.rule, decision.remaining) == ("account", MINUTE, 2)
    limits.consume("account", MINUTE, T, cost=2)
    limits.consume("address", HOUR, T, cost=4)
    refused = limits.consume_all(both, T)
    assert (refused.permitted, refused.key, refused.rule) == (False, "address", HOUR)


def test_every_algorithm_takes_part(limits: Face) -> None:
    """RustAuth's own wire among them."""
    rules = [
        RateLimitRule(60, 2, name, escalate=(60,) if name == "lockout" else ())  # type: ignore[arg-type]
        for name in ALGORITHM_NAMES
    ]
    every = [(f"key-{index % 2}", rule) for index, rule in enumerate(rules)]
    assert limits.consume_all(every, T).remaining == 1
    limits.consume(every[3][0], every[3][1], T)
    assert limits.consume_all(every, T).rule == rules[3]
    for key, rule in every:
        assert limits.peek(key, rule, T).remaining == (0 if rule == rules[3] else 1)


def test_a_cost_is_spent_of_each(limits: Face) -> None:
    """And never of some."""
    both = [("a", MINUTE), ("b", HOUR)]
    assert limits.consume_all(both, T, cost=3).remaining == 0
    assert limits.peek("b", HOUR, T).remaining == 2
    assert not limits.consume_all([("c", MINUTE), ("b", HOUR)], T, cost=3).permitted
    assert limits.peek("c", MINUTE, T).remaining == 3


def test_a_limit_that_is_named_twice_counts_once(limits: Face) -> None:
    """It is one limit."""
    assert limits.consume_all([("key", MINUTE), ("key", MINUTE)], T).remaining == 2


def test_nothing_that_cannot_work_is_sent(unconnected: RustAuthStores, runner: Any) -> None:
    """No limits, a cost that never fits, a rule that none can apply."""
    limits = Face(unconnected.rate_limit_store, runner)
    for arguments, cost, message in [
        ([], 1, "at least one"),
        ([("a", HOUR), ("b", MINUTE)], 4, "must not be greater than max"),
        ([("a", HOUR), ("b", RateLimitRule(0, 1))], 1, "window must be greater than zero"),
        ([("a", RUSTAUTH), ("a", RateLimitRule(60, 9))], 1, "must not share a counter"),
    ]:
        with pytest.raises(InvalidConfig, match=message):
            limits.consume_all(arguments, cost=cost)


def test_it_is_one_round_trip(server: Server, prefix: str, raw: redis.Redis) -> None:
    """However many limits, and however many subjects."""
    with RustAuthStores.from_url(server.url, key_prefix=prefix) as stores:
        every = [(f"key-{i}", rule) for i in range(5) for rule in (MINUTE, HOUR, RUSTAUTH)]
        stores.rate_limit_store.consume_all(every)
        before = raw.info("commandstats")["cmdstat_evalsha"]["calls"]
        stores.rate_limit_store.consume_all(every)
        assert raw.info("commandstats")["cmdstat_evalsha"]["calls"] == before + 1


def test_a_bucket_of_the_wrong_type_is_named(server_stores: RustAuthStores, raw: Any) -> None:
    """QUIRK-13: and removed, and the other one spends nothing."""
    store = server_stores.rate_limit_store
    physical = store.keyspaces[1].physical("b")
    raw.set(physical, "junk")
    with pytest.raises(Exception, match="it was removed") as caught:
        store.consume_all([("a", MINUTE), ("b", MINUTE)])
    assert caught.value.key == physical  # type: ignore[attr-defined]
    assert store.peek("a", MINUTE).remaining == 3
    assert store.consume_all([("a", MINUTE), ("b", MINUTE)]).remaining == 2


def test_a_garbled_count_starts_afresh(server_stores: RustAuthStores, raw: Any) -> None:
    """RL-08, for every algorithm: what is no state of it counts as none."""
    store = server_stores.rate_limit_store
    for name in ALGORITHM_NAMES:
        rule = RateLimitRule(60, 2, name, escalate=(60,) if name == "lockout" else ())  # type: ignore[arg-type]
        physical = store.keyspaces[name != "rustauth"].physical(name)
        texts = ("x", "1", "-1 -1", "1 2 3 4 5", "1234567", "9" * 40, "1.5 2", "")
        for junk in (*texts, "\x01", "\x01" * 6):
            raw.delete(physical)
            raw.hset(physical, rule.slot or "count", junk)
            assert store.consume(name, rule).remaining == 1, (name, junk)
            assert raw.pttl(physical) > 0


def _spend(url: str, prefix: str) -> int:
    pair = [("address", RateLimitRule(60, 70, "gcra")), ("account", RateLimitRule(600, 60))]
    options = {**PATIENT, "max_connections": 64}
    with RustAuthStores.from_url(url, key_prefix=prefix, client_options=options) as stores:
        consume_all = stores.rate_limit_store.consume_all
        with ThreadPoolExecutor(64) as pool:
            return sum(pool.map(lambda _: consume_all(pair).permitted, range(64)))


@pytest.mark.slow
def test_8_processes_of_64_threads_spend_what_was_permitted(
    one_server: Server, prefix: str
) -> None:
    """RL-26: on both limits alike: the smaller one is spent, the other has spent as much."""
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        permits = sum(pool.starmap(_spend, [(one_server.url, prefix)] * 8))
    assert permits == 60
    with RustAuthStores.from_url(one_server.url, key_prefix=prefix) as stores:
        account = stores.rate_limit_store.peek("account", RateLimitRule(600, 60))
        assert account.remaining == 0
        with redis.Redis.from_url(one_server.url) as raw:
            (state,) = raw.hvals(f"{prefix}limits:address")
            level = int.from_bytes(state[1:8], "big")
        leaked = 60 * 60_000 - level
        assert 0 <= leaked < 20_000 * 70, "what was spent, less what leaked in twenty seconds"
