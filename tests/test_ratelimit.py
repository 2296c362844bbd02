"""RateLimitStore: contract RL, on every backend and with both faces."""

from datetime import timedelta
from typing import Any

import pytest

from rustauth_django import (
    InvalidConfig,
    RateLimitDecision,
    RateLimitRule,
    RateLimitStore,
    RustAuthStores,
)
from rustauth_django.engine.durations import ceil_seconds
from rustauth_django.limits.operations import LATEST_MS

from .conftest import Clock
from .faces import Face

T = 1_700_000_000_000
RULE = RateLimitRule(window=10, max=3)


def permitted(remaining: int, limit: int = 3, reset_after: int = 10) -> RateLimitDecision:
    return RateLimitDecision(True, 0, limit, remaining, reset_after)


def denied(retry_after: int, limit: int = 3) -> RateLimitDecision:
    return RateLimitDecision(False, retry_after, limit, 0, retry_after)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (RateLimitRule(window=0, max=0), "rate limit window must be greater than zero"),
        (RateLimitRule(window=0.0, max=1), "rate limit window must be greater than zero"),
        (RateLimitRule(window=timedelta(0), max=0), "rate limit max must be greater than zero"),
        (RateLimitRule(window=1, max=0), "rate limit max must be greater than zero"),
        (RateLimitRule(window=1, max=-1), "rate limit max must be greater than zero"),
        (RateLimitRule(window=-1, max=0), "rate limit max must be greater than zero"),
        (RateLimitRule(window=-1, max=1), "rate limit window must be greater than zero"),
        (RateLimitRule(window=0.0005, max=1), "rate limit window must be greater than zero"),
        (RateLimitRule(window=9_223_372_036_854_776, max=1), "rate limit window is too large"),
        (RateLimitRule(window=2**63 - 1, max=2**63), "rate limit window is too large"),
        (RateLimitRule(window=float("inf"), max=1), "rate limit window is too large"),
        (RateLimitRule(window=1e308, max=1), "rate limit window is too large"),
        (RateLimitRule(window=1, max=2**63), "rate limit max must fit in i64"),
    ],
)
def test_rules_that_cannot_be_applied_are_refused_before_io(
    unconnected: RustAuthStores, runner: Any, rule: RateLimitRule, message: str
) -> None:
    """RL-01 to RL-06: with these words, and before the prefix is looked at."""
    limits = Face(RateLimitStore(unconnected.backend, key_prefix=""), runner)
    with pytest.raises(InvalidConfig, match=f"^{message}$"):
        limits.consume("key", rule)


def test_an_empty_prefix_is_refused_before_io(unconnected: RustAuthStores, runner: Any) -> None:
    """RL-07: by consume and by clear."""
    limits = Face(RateLimitStore(unconnected.backend, key_prefix=""), runner)
    for name, args in [("consume", ("key", RULE)), ("clear", ())]:
        with pytest.raises(InvalidConfig, match="^rate limit key prefix must not be empty$"):
            getattr(limits, name)(*args)


def test_wrong_types_are_a_type_error(limits: Face) -> None:
    """A bool is no number, a tuple is no rule, bytes are no key."""
    for window, limit in [(True, 1), ("10", 1), (None, 1), (10, True), (10, "3"), (10, 3.0)]:
        with pytest.raises(TypeError):
            RateLimitRule(window=window, max=limit)  # type: ignore[arg-type]
    for args in [(b"key", RULE), ("key", (10, 3)), ("key", RULE, 1.5), ("key", RULE, True)]:
        with pytest.raises(TypeError):
            limits.consume(*args)
    for now_ms in (-1, 10**15):
        with pytest.raises(InvalidConfig, match="now_ms"):
            limits.consume("key", RULE, now_ms)


def test_the_longest_rules_are_applied(limits: Face) -> None:
    """RL-04, RL-05, QUIRK-12: the largest window and max there are, and no error after a write.

    What is said of them is capped where a double stops to be exact.
    """
    longest = RateLimitRule(window=9_223_372_036_854_775, max=1)
    assert limits.consume("longest", longest, T).permitted
    assert limits.consume("longest", longest, T).retry_after == ceil_seconds(LATEST_MS)
    assert limits.consume("largest", RateLimitRule(1, 2**63 - 1), T).remaining == 2**63 - 2


def test_the_reference_trace(limits: Face) -> None:
    """RL-19 as executed, with QUIRK-07 mended: a refusal never says 0."""
    trace = [
        (T, permitted(2)),
        (T + 1, permitted(1)),
        (T + 2, permitted(0)),
        (T + 500, denied(10)),
        (T + 9_999, denied(1)),
        (T + 10_002, denied(1)),
        (T + 10_003, permitted(2)),
    ]
    for now_ms, decision in trace:
        assert limits.consume("key", RULE, now_ms) == decision, now_ms - T


def test_a_bucket_counts_up_to_max(limits: Face) -> None:
    """RL-13, RL-15, RL-16, RL-20: fields of the permitted ones."""
    assert limits.consume("127.0.0.1|/ok", RULE, T) == permitted(2)
    assert limits.consume("127.0.0.1|/ok", RULE, T + 1) == permitted(1)


def test_a_refusal_says_when_to_come_back(limits: Face) -> None:
    """RL-14, RL-17, RL-21, RL-22: rounded up to whole seconds."""
    rule = RateLimitRule(window=1, max=2)
    for _ in range(2):
        assert limits.consume("second", rule, T).permitted
    assert limits.consume("second", rule, T) == denied(1, limit=2)
    rule = RateLimitRule(window=10, max=2)
    for _ in range(2):
        limits.consume("later", rule, 10_000)
    assert limits.consume("later", rule, 15_000) == denied(5, limit=2)


@pytest.mark.parametrize(
    ("window", "reset_after"), [(1.5, 2), (0.5, 1), (timedelta(milliseconds=10_001), 11), (2, 2)]
)
def test_reset_after_is_the_window_rounded_up(
    limits: Face, window: float, reset_after: int
) -> None:
    """RL-18: on every backend alike."""
    assert limits.consume("key", RateLimitRule(window, 1), T).reset_after == reset_after


def test_the_window_ends_after_its_last_millisecond(limits: Face) -> None:
    """RL-09, RL-23: one window later it is still refused, a millisecond after that it is not."""
    rule = RateLimitRule(window=1, max=1)
    assert limits.consume("key", rule, T).permitted
    assert not limits.consume("key", rule, T + 1_000).permitted
    decision = limits.consume("key", rule, T + 1_001)
    assert (decision.permitted, decision.remaining) == (True, 0)


def test_the_boundary_counts_into_the_window(limits: Face) -> None:
    """RL-24, RL-11: below max, the call at the boundary counts and the window slides."""
    rule = RateLimitRule(window=1, max=2)
    limits.consume("key", rule, T)
    assert limits.consume("key", rule, T + 1_000).remaining == 0
    assert not limits.consume("key", rule, T + 2_000).permitted
    assert limits.consume("key", rule, T + 2_001).permitted


def test_refusals_change_nothing(limits: Face) -> None:
    """RL-10, RL-12, RL-27: a client that hammers is let in when one that waits would be."""
    rule = RateLimitRule(window=1, max=1)
    limits.consume("key", rule, T)
    for ms in range(0, 1_001, 100):
        assert not limits.consume("key", rule, T + ms).permitted
    assert limits.consume("key", rule, T + 1_001).permitted


def test_a_lowered_max_refuses_at_once(limits: Face) -> None:
    """RL-16: remaining is never below zero."""
    for _ in range(3):
        limits.consume("key", RULE, T)
    assert limits.consume("key", RateLimitRule(10, 1), T) == denied(10, limit=1)


def test_time_never_moves_backwards(limits: Face) -> None:
    """QUIRK-10: a host whose clock is behind resets nobody, and never waits beyond the window."""
    rule = RateLimitRule(window=10, max=2)
    assert limits.consume("key", rule, T).permitted
    assert limits.consume("key", rule, T - 5_000).permitted
    assert limits.consume("key", rule, T - 5_000) == denied(10, limit=2)
    assert not limits.consume("key", rule, T + 10_000).permitted
    assert limits.consume("key", rule, T + 10_001).permitted


def test_the_server_has_a_clock(limits: Face) -> None:
    """QUIRK-10: without now_ms nobody needs the host's."""
    assert limits.consume("key", RateLimitRule(60, 1)).permitted
    decision = limits.consume("key", RateLimitRule(60, 1))
    assert not decision.permitted
    assert decision.retry_after in (59, 60)


def test_buckets_are_apart(limits: Face) -> None:
    """KEY-02, IP-19: the bucket is opaque; nothing in it is special."""
    rule = RateLimitRule(window=10, max=1)
    for key in ("192.0.2.1|/x", "192.0.2|.1/x", "", "*", "ключ", "a b"):
        assert limits.consume(key, rule, T).permitted
        assert not limits.consume(key, rule, T).permitted


def test_a_cost_is_spent_whole_or_not_at_all(limits: Face) -> None:
    """What does not fit spends nothing, and says what is left."""
    rule = RateLimitRule(window=10, max=5)
    assert limits.consume("key", rule, T, cost=3) == permitted(2, limit=5)
    refused = limits.consume("key", rule, T, cost=3)
    assert (refused.permitted, refused.remaining, refused.retry_after) == (False, 2, 10)
    assert limits.consume("key", rule, T, cost=2) == permitted(0, limit=5)
    assert limits.consume("fresh", rule, T, cost=5) == permitted(0, limit=5)


def test_a_cost_that_never_fits_is_an_error(unconnected: RustAuthStores, runner: Any) -> None:
    """Nobody should wait for it; and it is told before any I/O."""
    limits = Face(unconnected.rate_limit_store, runner)
    for cost, message in [(0, "greater than zero"), (-1, "greater than zero"), (4, "than max")]:
        with pytest.raises(InvalidConfig, match=f"rate limit cost must .*{message}"):
            limits.consume("key", RULE, cost=cost)
    with pytest.raises(InvalidConfig, match="amount must be greater than zero"):
        limits.refund("key", RULE, 0)
    for call in (
        lambda: limits.consume("key", RULE, cost=True),
        lambda: limits.consume("key", RULE, cost=1.5),
        lambda: limits.refund("key", RULE, "1"),
        lambda: limits.peek("key", (10, 3)),
        lambda: limits.reset(b"key"),
    ):
        with pytest.raises(TypeError):
            call()


def test_peek_looks_and_changes_nothing(limits: Face) -> None:
    """As the next request would find it."""
    fresh = RateLimitDecision(True, 0, 3, 3, 0)
    assert limits.peek("key", RULE, T) == fresh
    limits.consume("key", RULE, T)
    for _ in range(5):
        assert limits.peek("key", RULE, T + 4_000) == permitted(2, reset_after=6)
    limits.consume("key", RULE, T, cost=2)
    assert limits.peek("key", RULE, T + 4_000) == denied(6)
    assert limits.peek("key", RULE, T + 10_000) == denied(1)
    assert limits.peek("key", RULE, T + 10_001) == fresh
    assert limits.consume("key", RULE, T + 10_001) == permitted(2)


def test_a_refund_gives_back_what_was_spent(limits: Face) -> None:
    """Never above the limit, and without moving the window."""
    limits.consume("key", RULE, T, cost=3)
    assert not limits.consume("key", RULE, T + 1_000).permitted
    assert limits.refund("key", RULE, 1, T + 2_000) == permitted(1, reset_after=8)
    assert limits.peek("key", RULE, T + 10_001).remaining == 3
    assert limits.consume("key", RULE, T + 3_000).permitted
    assert limits.refund("key", RULE, 99, T + 3_000).remaining == 3
    assert limits.peek("key", RULE, T + 3_000).remaining == 3
    assert limits.consume("key", RULE, T + 3_000) == permitted(2)


def test_a_refund_revives_no_old_window(limits: Face) -> None:
    """What was spent before is not there to be given back."""
    assert limits.refund("key", RULE, 1, T).remaining == 3
    assert limits.peek("key", RULE, T).reset_after == 0
    limits.consume("key", RULE, T, cost=3)
    assert limits.refund("key", RULE, 2, T + 10_001) == RateLimitDecision(True, 0, 3, 3, 0)
    assert limits.peek("key", RULE, T + 10_000) == denied(1)


def test_reset_forgets_one_bucket(limits: Face) -> None:
    """Its owner may go on at once; nobody else's is touched."""
    for key in ("a", "b"):
        limits.consume(key, RULE, T, cost=3)
    assert limits.reset("a") is True
    assert limits.reset("a") is False
    assert limits.consume("a", RULE, T) == permitted(2)
    assert not limits.consume("b", RULE, T).permitted


def test_clearing_values_keeps_rate_limits_and_vice_versa(
    stores: RustAuthStores, limits: Face, storage: Face
) -> None:
    """ST-31, KEY-03: neither sees the other's keys."""
    rule = RateLimitRule(window=60, max=1)
    assert limits.consume("10.0.0.1|/sign-in", rule, T).permitted
    storage.set("session:token", "value", 60)
    assert storage.list_keys() == ["session:token"]
    assert storage.clear() == 1
    assert limits.consume("10.0.0.1|/sign-in", rule, T) == denied(60, limit=1)
    storage.set("session:token", "value", 60)
    assert limits.clear() == 1
    assert storage.get("session:token") == "value"
    assert limits.consume("10.0.0.1|/sign-in", rule, T).permitted


def test_memory_keeps_the_longer_lifetime(memory: RustAuthStores, clock: Clock) -> None:
    """QUIRK-11: as a server does."""
    store = memory.rate_limit_store
    store.consume("key", RateLimitRule(60, 1))
    assert not store.consume("key", RateLimitRule(1, 1)).permitted
    clock.now_ms += 30_000
    assert store.consume("key", RateLimitRule(1, 1)).permitted
    clock.now_ms += 20_000
    assert not store.consume("key", RateLimitRule(60, 1)).permitted


def test_memory_forgets_buckets(memory: RustAuthStores, clock: Clock) -> None:
    """RL-32, RL-33: after their window, and the oldest first when there are too many."""
    store = memory.rate_limit_store
    rule = RateLimitRule(window=1, max=1)
    for i in range(20_000):
        store.consume(f"key-{i}", rule)
        clock.now_ms += 10
    buckets = memory.backend._memory._buckets  # type: ignore[attr-defined]
    assert len(buckets) < 3_000
    memory.backend._memory._max_buckets = 1_000  # type: ignore[attr-defined]
    for i in range(2_000):
        store.consume(f"new-{i}", rule)
    assert len(buckets) == 1_000
    clock.now_ms += 2_000
    for i in range(500):
        store.consume(f"newer-{i}", rule)
    assert len(buckets) == 500, "what has expired goes before what is alive"
    for i in range(2_000):
        store.consume(f"new-{i}", rule)
    assert not store.consume("new-1999", rule).permitted
    assert store.consume("new-0", rule).permitted
