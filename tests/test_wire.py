"""What is on the wire, seen by a plain client: keys, types, lifetimes, commands."""

import sys
from types import FrameType

import pytest
import redis

from rustauth_django import BackendError, RateLimitRule, RustAuthStores
from rustauth_django.engine.operations import COMPARE_AND_SET, DELETE_IF_VALUE, escape_glob
from rustauth_django.engine.protocol import HIREDIS
from rustauth_django.limits.algorithms import consume
from rustauth_django.limits.algorithms.consume import STEPS

T = 1_700_000_000_000
RULE = RateLimitRule(window=10, max=3)


def calls(raw: redis.Redis) -> dict[str, int]:
    """How often each command ran since the last look."""
    stats = raw.info("commandstats")
    raw.config_resetstat()
    names = {name.removeprefix("cmdstat_"): value["calls"] for name, value in stats.items()}
    # What connecting and looking cost is nobody's operation.
    ours = ("info", "config", "client", "hello", "select")
    return {name: count for name, count in names.items() if not name.startswith(ours)}


def test_default_keys(raw: redis.Redis, server: object) -> None:
    """KEY-01, KEY-02, CFG-01: the names that RustAuth uses with its defaults."""
    raw.flushdb()
    with RustAuthStores.from_url(server.url) as stores:  # type: ignore[attr-defined]
        stores.secondary_storage.set("session:abc", "value", 60)
        stores.rate_limit_store.consume("192.0.2.1|/sign-in/email", RULE, T)
        assert sorted(raw.keys()) == [
            "rustauth:rate-limit:192.0.2.1|/sign-in/email",
            "rustauth:secondary:session:abc",
        ]
        assert raw.get("rustauth:secondary:session:abc") == "value"
        assert raw.hgetall("rustauth:rate-limit:192.0.2.1|/sign-in/email") == {
            "count": "1",
            "last_request": str(T),
        }
    raw.flushdb()


def test_a_bucket_of_rustauth_is_read(
    raw: redis.Redis, server_stores: RustAuthStores, prefix: str
) -> None:
    """KEY-08: what the references wrote counts here."""
    raw.hset(f"{prefix}rate-limit:key", mapping={"count": "3", "last_request": str(T)})
    assert server_stores.rate_limit_store.consume("key", RULE, T + 1).retry_after == 10


@pytest.mark.parametrize(
    "state",
    [
        {"count": "3"},
        {"last_request": str(T)},
        {"count": "x", "last_request": str(T)},
        {"count": "3", "last_request": ""},
        {"count": "-5", "last_request": str(T)},
        {"count": "9" * 400, "last_request": str(T)},
        {"count": "3", "last_request": "1e300"},
        {"count": "nan", "last_request": "inf"},
    ],
)
def test_a_bucket_of_rubbish_starts_afresh(
    raw: redis.Redis, server_stores: RustAuthStores, prefix: str, state: dict[str, str]
) -> None:
    """RL-08, QUIRK-13: missing and unreadable fields count as none, negative ones too."""
    raw.hset(f"{prefix}rate-limit:key", mapping=state)
    assert server_stores.rate_limit_store.consume("key", RULE, T).remaining == 2
    assert raw.hget(f"{prefix}rate-limit:key", "count") == "1"


def test_a_bucket_outlives_its_window_a_little(
    raw: redis.Redis, server_stores: RustAuthStores, prefix: str
) -> None:
    """RL-09, QUIRK-08: so that the very end of the window is decided by it, not by its absence."""
    server_stores.rate_limit_store.consume("key", RULE)
    assert 10_000 < raw.pttl(f"{prefix}rate-limit:key") <= 10_000 + consume.TTL_MARGIN_MS


def test_a_refusal_writes_nothing(
    raw: redis.Redis, server_stores: RustAuthStores, prefix: str
) -> None:
    """QUIRK-09: not even a TTL, so that memory and replication do not grow with an attack."""
    key, rule = f"{prefix}rate-limit:key", RateLimitRule(10, 1)
    server_stores.rate_limit_store.consume("key", rule, T)
    raw.pexpire(key, 5_000)
    calls(raw)
    assert not server_stores.rate_limit_store.consume("key", rule, T).permitted
    assert raw.pttl(key) <= 5_000
    assert set(calls(raw)) == {"evalsha", "hmget", "pttl"}


def test_a_bucket_without_ttl_gets_one(
    raw: redis.Redis, server_stores: RustAuthStores, prefix: str
) -> None:
    """Even if the request that finds it is refused."""
    key = f"{prefix}rate-limit:key"
    raw.hset(key, mapping={"count": "3", "last_request": str(T)})
    assert not server_stores.rate_limit_store.consume("key", RULE, T).permitted
    assert 0 < raw.pttl(key) <= 10_000 + consume.TTL_MARGIN_MS


def test_a_shorter_window_does_not_cut_a_longer_one(
    raw: redis.Redis, server_stores: RustAuthStores, prefix: str
) -> None:
    """QUIRK-11: where two rules meet in one bucket, the longer lifetime stays."""
    store = server_stores.rate_limit_store
    store.consume("key", RateLimitRule(60, 3))
    store.consume("key", RateLimitRule(1, 3))
    assert raw.pttl(f"{prefix}rate-limit:key") > 50_000


def test_the_server_clock_is_the_servers(
    raw: redis.Redis, server_stores: RustAuthStores, prefix: str
) -> None:
    """QUIRK-10: last_request is Redis time when now_ms is None."""
    before, _ = raw.time()
    server_stores.rate_limit_store.consume("key", RULE)
    after, _ = raw.time()
    last_request = int(raw.hget(f"{prefix}rate-limit:key", "last_request") or 0)
    assert before * 1000 <= last_request < (after + 1) * 1000


def test_a_key_of_another_type_is_named_and_healed(
    raw: redis.Redis, server_stores: RustAuthStores, prefix: str
) -> None:
    """QUIRK-13: one BackendError that names it; the next request counts."""
    key = f"{prefix}rate-limit:10.0.0.1|/x"
    raw.lpush(key, "what is this")
    with pytest.raises(BackendError) as caught:
        server_stores.rate_limit_store.consume("10.0.0.1|/x", RULE)
    assert key in str(caught.value)
    assert caught.value.key == key
    assert key not in caught.value.reason
    assert server_stores.rate_limit_store.consume("10.0.0.1|/x", RULE).remaining == 2


def test_values_of_another_type(
    raw: redis.Redis, server_stores: RustAuthStores, prefix: str
) -> None:
    """ST-07: set replaces it, set_if_not_exists sees it, the rest is a BackendError."""
    storage, key = server_stores.secondary_storage, f"{prefix}secondary:key"
    raw.lpush(key, "list")
    for call in (
        lambda: storage.get("key"),
        lambda: storage.take("key"),
        lambda: storage.compare_and_set("key", "a", "b"),
        lambda: storage.delete_if_value("key", "a"),
    ):
        with pytest.raises(BackendError, match="WRONGTYPE"):
            call()
    assert storage.set_if_not_exists("key", "value") is False
    storage.set("key", "value")
    assert storage.get("key") == "value"


def test_a_value_that_is_no_text_is_a_backend_error(
    raw: redis.Redis, server_stores: RustAuthStores, prefix: str
) -> None:
    """Values are UTF-8; the error does not quote what is not."""
    raw.set(f"{prefix}secondary:key", b"\xff\xfe secret")
    with pytest.raises(BackendError, match="not UTF-8") as caught:
        server_stores.secondary_storage.get("key")
    assert "secret" not in str(caught.value)


def test_a_foreign_key_that_is_no_text_is_listed_and_cleared(
    server: object, server_stores: RustAuthStores, prefix: str
) -> None:
    """A scan survives whatever somebody else wrote."""
    with redis.Redis.from_url(server.url) as raw:  # type: ignore[attr-defined]
        raw.set(prefix.encode() + b"secondary:\xff\xfe", "value", ex=60)
        (listed,) = server_stores.secondary_storage.list_keys()
        assert server_stores.secondary_storage.get(listed) == "value"
        assert server_stores.secondary_storage.clear() == 1


def test_each_operation_is_one_command(raw: redis.Redis, server_stores: RustAuthStores) -> None:
    """CMD-01 to CMD-10: one round trip each, nothing that blocks the server."""
    storage, limits = server_stores.secondary_storage, server_stores.rate_limit_store
    storage.compare_and_set("warm", None, "up", 60)
    storage.delete_if_value("warm", "up")
    limits.consume("warm", RULE)
    calls(raw)
    expected = [
        (lambda: storage.get("k"), {"get": 1}),
        (lambda: storage.set("k", "v", 60), {"set": 1}),
        (lambda: storage.set("k", "v"), {"set": 1}),
        (lambda: storage.set("k", "v", 0), {"del": 1}),
        (lambda: storage.set_if_not_exists("k", "v", 60), {"set": 1}),
        (lambda: storage.set_if_exists("k", "v", 60), {"set": 1}),
        (lambda: storage.compare_and_set("k", "v", "w", 60), {"evalsha": 1, "get": 1, "set": 1}),
        (lambda: storage.ttl("k"), {"pttl": 1}),
        (lambda: storage.take("k"), {"getdel": 1}),
        (lambda: storage.delete("k"), {"del": 1}),
        (lambda: storage.delete_if_value("k", "v"), {"evalsha": 1, "get": 1}),
        (
            lambda: limits.consume("k", RULE, T),
            {"evalsha": 1, "hmget": 1, "hset": 1, "pttl": 1, "pexpire": 1},
        ),
        (lambda: limits.peek("k", RULE, T), {"evalsha": 1, "hmget": 1}),
        (lambda: limits.refund("k", RULE, 1, T), {"evalsha": 1, "hmget": 1, "hset": 1, "pttl": 1}),
        (lambda: limits.reset("k"), {"del": 1}),
        (lambda: limits.refund("k", RULE, 1, T), {"evalsha": 1, "hmget": 1}),
        (lambda: storage.set_if_not_exists("k", "v", 0), {}),
        (lambda: storage.delete_if_value("k", None), {}),
    ]
    for call, commands in expected:
        call()
        assert calls(raw) == commands


@pytest.mark.parametrize("algorithm", STEPS)
def test_a_decision_costs_what_its_commands_cost(
    raw: redis.Redis, server_stores: RustAuthStores, algorithm: str
) -> None:
    """A read and a write for each limit; the lifetime of a bucket once, whatever is in it."""
    limits = server_stores.rate_limit_store
    escalate = (60,) if algorithm == "lockout" else ()
    hour, day = (RateLimitRule(n, 3, algorithm, escalate=escalate) for n in (3600, 86_400))  # type: ignore[arg-type]
    read = "hmget" if algorithm == "rustauth" else "hget"
    two = [("a", hour), ("b" if algorithm == "rustauth" else "a", day)]
    limits.consume("key", hour, cost=2)
    limits.consume_all(two)
    calls(raw)
    limits.consume("key", hour)
    ran = calls(raw)
    assert ran.pop("pexpire", 1) == 1
    assert ran == {"evalsha": 1, "time": 1, read: 1, "hset": 1, "pttl": 1}
    limits.consume_all(two)
    ran, buckets = calls(raw), len({key for key, _ in two})
    assert ran.pop("pexpire", 1) <= buckets
    assert ran == {"evalsha": 1, "time": 1, read: 2, "hset": 2, "pttl": buckets}


@pytest.mark.parametrize(("max", "most"), [(100, 26), (1, 13)])
def test_a_decision_takes_few_calls_in_python(
    server_stores: RustAuthStores, prefix: str, max: int, most: int
) -> None:
    """One that is permitted, and a refusal from memory; counted, as no clock is steady enough."""
    front = RustAuthStores(server_stores.backend, key_prefix=prefix, local_refusals=60)
    store, called = front.rate_limit_store, list[str]()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and "rustauth_django" in frame.f_code.co_filename:
            called.append(frame.f_code.co_name)

    rule = RateLimitRule(60, max, "gcra")
    for _ in range(2):
        store.consume("key", rule)
    sys.setprofile(note)
    try:
        decision = store.consume("key", rule)
    finally:
        sys.setprofile(None)
    assert decision.is_local == (max == 1)
    # Without hiredis a reply is read by calls of Python's.
    reading = 0 if HIREDIS or decision.is_local else 20
    assert 0 < len(called) <= most + reading, called


def test_clear_goes_page_by_page(
    raw: redis.Redis, server_stores: RustAuthStores, prefix: str
) -> None:
    """QUIRK-14, CMD-08: SCAN and UNLINK, several of each; never KEYS, never one huge DEL."""
    raw.flushdb()
    for i in range(1_000):
        raw.set(f"{prefix}secondary:{i}", "value", ex=60)
    calls(raw)
    assert server_stores.secondary_storage.clear() == 1_000
    ran = calls(raw)
    assert set(ran) == {"scan", "unlink"}
    assert ran["scan"] >= 10
    assert ran["unlink"] >= 10


def test_walks_start_before_they_end(
    raw: redis.Redis, server_stores: RustAuthStores, prefix: str
) -> None:
    """iter_keys asks for the next page when it is needed, not before."""
    raw.flushdb()
    for i in range(1_000):
        raw.set(f"{prefix}secondary:{i}", "value", ex=60)
    calls(raw)
    keys = server_stores.secondary_storage.iter_keys()
    assert calls(raw) == {}
    next(keys)
    assert calls(raw)["scan"] < 5


def test_scripts_are_loaded_again_when_lost(
    raw: redis.Redis, server_stores: RustAuthStores
) -> None:
    """CMD-06, CMD-10: after SCRIPT FLUSH or a failover the text is sent once."""
    raw.script_flush()
    calls(raw)
    for _ in range(2):
        assert server_stores.rate_limit_store.consume("key", RULE, T).permitted
    ran = calls(raw)
    assert (ran["evalsha"], ran["eval"]) == (2, 1)
    assert server_stores.secondary_storage.compare_and_set("k", None, "v", 60)
    assert server_stores.secondary_storage.delete_if_value("k", "v")


def test_scripts_use_commands_of_today() -> None:
    """CMD-10, KEY-11: HSET, never the deprecated HMSET; one key each, as a cluster wants it."""
    several = consume.script_for_several(frozenset(STEPS))
    for script in (several, COMPARE_AND_SET, DELETE_IF_VALUE):
        assert "HMSET" not in script.text
        assert "KEYS[2]" not in script.text


def test_globs_are_escaped() -> None:
    """KEY-09: five characters, nothing else."""
    assert escape_glob("tenant:*?[]\\:") == r"tenant:\*\?\[\]\\:"
    assert escape_glob("rustauth:test:") == "rustauth:test:"
    assert escape_glob("g:^-:") == "g:^-:"
