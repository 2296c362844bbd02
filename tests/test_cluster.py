"""Redis Cluster: keys on several servers, and limits on several keys."""

import asyncio
import itertools
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from redis import asyncio as aioredis
from redis.crc import key_slot

from rustauth_django import (
    BackendError,
    BackendUnavailable,
    InvalidConfig,
    RateLimitRule,
    RustAuthStores,
)
from rustauth_django.engine.cluster import redirection_of
from rustauth_django.engine.opening import open_cluster_client
from rustauth_django.engine.operations import Delete, Describe, Get, GetMany, Set, Take
from rustauth_django.engine.wire import Started
from rustauth_django.limits.rates import ALGORITHM_NAMES

from .clusters import ABLE, SIZE, Cluster
from .faces import Face
from .proxies import Proxy, drip
from .servers import Server

pytestmark = pytest.mark.skipif(not ABLE, reason="there is no server that can be in a cluster")

T = 1_700_000_000_000
PATIENT = {"socket_timeout": 10, "socket_connect_timeout": 10, "timeout": 30}
EXACT = ("sliding-window", "fixed-window", "gcra", "sliding-log")
RULE = RateLimitRule(window=60, max=3)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One cluster for all tests that leave it as it was."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def stores(
    cluster: Cluster, prefix: str, runner: asyncio.Runner | None
) -> Iterator[RustAuthStores]:
    """Stores on the cluster, closed as the face is."""
    stores = RustAuthStores.from_url(
        cluster.url, key_prefix=prefix, client_options=PATIENT, cluster=True
    )
    yield stores
    if runner:
        runner.run(stores.aclose())
    stores.close()


@pytest.fixture
def storage(stores: RustAuthStores, runner: asyncio.Runner | None) -> Face:
    return Face(stores.secondary_storage, runner)


@pytest.fixture
def limits(stores: RustAuthStores, runner: asyncio.Runner | None) -> Face:
    return Face(stores.rate_limit_store, runner)


def one_on_each(cluster: Cluster, prefix: str) -> list[str]:
    """Names of buckets, one for each of the servers."""
    found: dict[int, str] = {}
    for number in itertools.count():
        found.setdefault(cluster.owner(f"{prefix}limits:name-{number}"), f"name-{number}")
        if len(found) == SIZE:
            break
    return [found[server] for server in range(SIZE)]


@pytest.fixture
def subjects(cluster: Cluster, prefix: str) -> list[str]:
    """Buckets on all servers, one on each."""
    return one_on_each(cluster, prefix)


def counted(cluster: Cluster, command: str) -> int:
    """How often the servers have carried out a command."""
    total = 0
    for server in cluster.servers:
        with redis.Redis(port=server.port) as raw:
            total += raw.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"]
    return total


def test_every_storage_operation_finds_its_server(storage: Face) -> None:
    """Whichever holds the key, scripts and plain commands alike."""
    for i in range(30):
        key = f"schlüssel-{i}"
        assert storage.get(key) is None
        storage.set(key, "a", 60)
        assert not storage.set_if_not_exists(key, "b", 60)
        assert storage.get(key) == "a"
        assert 59 <= storage.ttl(key) <= 60
        assert storage.compare_and_set(key, "a", "b", 60)
        assert not storage.delete_if_value(key, "a")
        assert storage.delete_if_value(key, "b")
        storage.set(key, "c", 60)
        assert storage.take(key) == "c"
        assert not storage.delete(key)


def test_a_script_that_servers_lost_is_sent_again(cluster: Cluster, storage: Face) -> None:
    """To each of them."""
    for server in range(SIZE):
        cluster.tell(server, "SCRIPT", "FLUSH")
    for i in range(20):
        assert storage.compare_and_set(f"key-{i}", None, "value", 60)


def test_a_walk_meets_the_keys_of_all_servers(
    cluster: Cluster, prefix: str, runner: asyncio.Runner | None
) -> None:
    """Page by page, each key once; a clear removes them, and nothing of another prefix."""
    names = {"key_prefix": prefix, "client_options": PATIENT, "cluster": True}
    with (
        RustAuthStores.from_url(cluster.url, scan_count=7, **names) as stores,  # type: ignore[arg-type]
        RustAuthStores.from_url(cluster.url, **names | {"key_prefix": f"{prefix}2:"}) as others,  # type: ignore[arg-type]
    ):
        keys = {f"key-{i}" for i in range(200)}
        for key in keys:
            stores.secondary_storage.set(key, "value", 60)
        others.secondary_storage.set("key", "value", 60)
        storage = Face(stores.secondary_storage, runner)
        assert sorted(storage.list_keys()) == sorted(keys)
        assert storage.clear() == 200
        assert storage.list_keys() == []
        assert others.secondary_storage.list_keys() == ["key"]
        if runner:
            runner.run(stores.aclose())


@pytest.mark.parametrize("algorithm", ALGORITHM_NAMES)
def test_every_algorithm_counts(limits: Face, algorithm: Any) -> None:
    """As on one server: consume, refuse, peek, refund, reset, clear."""
    rule = RateLimitRule(60, 2, algorithm, escalate=(60,) if algorithm == "lockout" else ())
    assert [limits.consume("key", rule, T).permitted for _ in range(3)] == [True, True, False]
    assert limits.peek("key", rule, T).remaining == 0
    if algorithm != "lockout":
        assert limits.refund("key", rule, now_ms=T).remaining == 1
    assert limits.reset("key")
    assert not limits.reset("key")
    limits.consume("a", rule, T)
    limits.consume("b", rule, T)
    assert limits.clear() == 2


def test_limits_of_one_subject_are_one_call(cluster: Cluster, limits: Face) -> None:
    """Their rules are fields of one key."""
    both = [("key", RateLimitRule.parse("3/m")), ("key", RateLimitRule.parse("5/h"))]
    assert limits.consume_all(both, T).remaining == 2
    before = counted(cluster, "evalsha")
    assert limits.consume_all(both, T).remaining == 1
    assert counted(cluster, "evalsha") == before + 1


@pytest.mark.parametrize("algorithm", EXACT)
def test_what_was_taken_is_given_back(limits: Face, subjects: list[str], algorithm: Any) -> None:
    """If the last of three servers refuses, the others stand as they stood."""
    rule = RateLimitRule(60, 5, algorithm)
    every = [(subject, rule) for subject in subjects]
    assert limits.consume_all(every, T).remaining == 4
    limits.consume(subjects[-1], rule, T, cost=4)
    before = [limits.peek(subject, rule, T + 1) for subject in subjects]
    for _ in range(3):
        refused = limits.consume_all(every, T + 1)
        assert (refused.permitted, refused.key, refused.remaining) == (False, subjects[-1], 0)
    assert [limits.peek(subject, rule, T + 1) for subject in subjects] == before
    assert [decision.remaining for decision in before] == [4, 4, 0]


def test_a_cost_is_given_back_whole(limits: Face, subjects: list[str]) -> None:
    """And of a bucket that was new, nothing is left but a whole one."""
    rule = RateLimitRule.parse("5/m")
    limits.consume(subjects[1], rule, T, cost=3)
    assert not limits.consume_all([(subject, rule) for subject in subjects], T, cost=3).permitted
    left = [limits.peek(subject, rule, T).remaining for subject in subjects]
    assert left == [5, 2, 5]


def test_the_binding_refusal_is_the_answer(limits: Face, subjects: list[str]) -> None:
    """Of the server that was not asked any more too, and decisions are in the order of limits."""
    short, long = RateLimitRule.parse("1/m"), RateLimitRule.parse("1/h")
    limits.consume(subjects[0], short, T)
    limits.consume(subjects[2], long, T)
    every = [(subjects[0], short), (subjects[1], short), (subjects[2], long)]
    refused = limits.consume_all(every, T)
    assert (refused.permitted, refused.key, refused.rule) == (False, subjects[2], long)


def test_decisions_come_in_the_order_of_the_limits(
    stores: RustAuthStores, subjects: list[str]
) -> None:
    """Whatever order they were taken in."""
    rules = [RateLimitRule(60, 2), RateLimitRule.parse("3/m"), RateLimitRule.parse("4/m")]
    limits = [("rustauth", rules[0]), (subjects[0], rules[1]), (subjects[1], rules[2])]
    operation = stores.rate_limit_store.consumption(limits, T)
    for _ in range(3):
        decisions = stores.backend.run(operation)
        assert [(one.key, one.rule) for one in decisions] == limits
        assert [one.limit for one in decisions] == [2, 3, 4]


def test_what_cannot_be_given_back_exactly_comes_last(limits: Face, subjects: list[str]) -> None:
    """A lockout that another limit refuses does not begin."""
    lockout = RateLimitRule(60, 1, "lockout", escalate=(600,))
    other = RateLimitRule.parse("1/m")
    limits.consume(subjects[1], other, T)
    assert limits.consume_all([(subjects[0], lockout), (subjects[1], other)], T).key == subjects[1]
    assert limits.peek(subjects[0], lockout, T).permitted


def test_a_server_that_fails_gives_back_too(
    cluster: Cluster, limits: Face, prefix: str, subjects: list[str]
) -> None:
    """The error of the one that failed is the answer, and the others spend nothing."""
    rule = RateLimitRule.parse("3/m")
    every = [(subject, rule) for subject in subjects]
    cluster.tell(1, "SET", f"{prefix}limits:{subjects[1]}", "junk")
    with pytest.raises(BackendError, match="it was removed"):
        limits.consume_all(every, T)
    assert limits.consume_all(every, T).remaining == 2
    assert limits.peek(subjects[0], rule, T).remaining == 2


@pytest.mark.parametrize("algorithm", ["fixed-window", "sliding-window", "sliding-log"])
def test_threads_never_take_too_much(
    stores: RustAuthStores, subjects: list[str], algorithm: Any
) -> None:
    """However 64 of them race for two limits, what was permitted and what is left add up."""
    first = subjects[0], RateLimitRule(3600, 60, algorithm)
    second = subjects[1], RateLimitRule(3600, 40, algorithm)
    limits = stores.rate_limit_store

    def consume(turn: int) -> bool:
        both = [first, second] if turn % 2 else [second, first]
        return limits.consume_all(both).permitted

    with ThreadPoolExecutor(64) as pool:
        permits = sum(pool.map(consume, range(192)))
    assert 0 < permits <= 40
    assert limits.peek(*first).remaining == 60 - permits
    assert limits.peek(*second).remaining == 40 - permits
    assert sum(consume(turn) for turn in range(50)) == 40 - permits


async def test_tasks_never_take_too_much(
    cluster: Cluster, prefix: str, subjects: list[str]
) -> None:
    """The same of one loop's tasks."""
    both = [(subjects[0], RateLimitRule(3600, 9, "sliding-log")), (subjects[1], RULE)]
    options = {**PATIENT, "max_connections": 8}
    async with RustAuthStores.from_url(
        cluster.url, key_prefix=prefix, client_options=options, cluster=True
    ) as stores:
        limits = stores.rate_limit_store
        decisions = await asyncio.gather(*(limits.aconsume_all(both) for _ in range(64)))
        permits = sum(decision.permitted for decision in decisions)
        assert 0 < permits <= 3
        for key, rule in both:
            assert (await limits.apeek(key, rule)).remaining == rule.max - permits


def connections(cluster: Cluster) -> int:
    """How many clients the servers have, those who ask aside."""
    return sum(cluster.tell(server, "CLIENT", "LIST").count(b"cmd=") - 1 for server in range(SIZE))


def settles(cluster: Cluster, expected: int) -> bool:
    """Do the servers come to have no more? They need a moment to see that one is gone."""
    deadline = time.monotonic() + 5
    while connections(cluster) > expected:
        if time.monotonic() > deadline:
            return False
    return True


def test_loops_come_and_go(cluster: Cluster, prefix: str) -> None:
    """Each has connections of its own, closed with it, or by aclose before."""
    before = connections(cluster)
    stores = RustAuthStores.from_url(
        cluster.url, key_prefix=prefix, client_options=PATIENT, cluster=True
    )
    storage = stores.secondary_storage

    async def fill(name: str) -> None:
        await asyncio.gather(*(storage.aset(f"{name}-{i}", "value", 60) for i in range(20)))
        assert connections(cluster) > before

    async def count() -> int:
        keys = await storage.alist_keys()
        await stores.aclose()
        assert settles(cluster, before)
        return len(keys)

    asyncio.run(fill("a"))
    assert settles(cluster, before)
    asyncio.run(fill("b"))
    assert asyncio.run(count()) == 40
    storage.set("key", "value", 60)
    stores.close()
    assert settles(cluster, before)


@pytest.mark.parametrize("decode", [False, True])
def test_a_callers_cluster_client_is_used(cluster: Cluster, prefix: str, decode: bool) -> None:
    """from_client: on its connections, which the caller closes; the async side is made after it."""
    with redis.RedisCluster.from_url(cluster.url, decode_responses=decode) as client:
        stores = RustAuthStores.from_client(client, key_prefix=prefix)
        for i in range(20):
            stores.secondary_storage.set(f"key-{i}", "grüße", 60)
        assert len(stores.secondary_storage.list_keys()) == 20
        assert len(asyncio.run(stores.secondary_storage.alist_keys())) == 20
        assert asyncio.run(stores.secondary_storage.aget("key-1")) == "grüße"
        assert stores.backend.location.startswith("the cluster at redis://127.0.0.1:")
        stores.close()
        assert client.exists(f"{prefix}secondary:key-1") == 1
        clients = [client.get_redis_connection(node) for node in client.get_primaries()]
        assert all(one.connection_pool._created_connections == 1 for one in clients)


async def test_a_callers_async_cluster_client_is_used(
    cluster: Cluster, prefix: str, subjects: list[str]
) -> None:
    """from_client: with an async client there is no other, for walks and limits alike."""
    with redis.RedisCluster.from_url(cluster.url) as client:
        async with aioredis.RedisCluster.from_url(cluster.url) as async_client:
            stores = RustAuthStores.from_client(client, async_client, key_prefix=prefix)
            for i in range(20):
                await stores.secondary_storage.aset(f"key-{i}", "value", 60)
            assert len(await stores.secondary_storage.alist_keys()) == 20
            every = [(subject, RULE) for subject in subjects]
            assert (await stores.rate_limit_store.aconsume_all(every)).remaining == 2
            await stores.aclose()
            assert await async_client.get(f"{prefix}secondary:key-1") == b"value"


async def test_tasks_share_a_connection_of_a_callers_async_cluster_client(
    cluster: Cluster, prefix: str
) -> None:
    """One for each server, however many tasks call at once; and it is given back."""
    key = f"{prefix}key"
    with redis.RedisCluster.from_url(cluster.url) as client:
        async with aioredis.RedisCluster.from_url(cluster.url) as async_client:
            backend = open_cluster_client(client, async_client)
            await async_client.set(key, "value")
            node = async_client.get_node_from_key(key)
            assert node is not None
            found = await asyncio.gather(*(backend.arun(Get(key)) for _ in range(64)))
            assert found == ["value"] * 64
            # The first is the client's own, which is free again.
            assert len(node._connections) <= 2
            await backend.aclose()
            assert len(node._free) == len(node._connections)


async def test_a_reply_that_drips_from_a_callers_async_cluster_client_has_a_deadline(
    cluster: Cluster, prefix: str
) -> None:
    """The deadline is for the whole call, there too."""
    key = f"{prefix}key"
    with ExitStack() as stack:
        proxies = {
            server.port: stack.enter_context(Proxy(server.port)) for server in cluster.servers
        }

        def remap(address: tuple[str, int]) -> tuple[str, int]:
            host, port = address
            return host, proxies[port].port if port in proxies else port

        client = stack.enter_context(redis.RedisCluster.from_url(cluster.url, address_remap=remap))
        async with aioredis.RedisCluster.from_url(
            cluster.url, address_remap=remap, socket_timeout=0.3
        ) as async_client:
            backend = open_cluster_client(client, async_client)
            assert await backend.arun(Set(key, "v" * 100, 60_000))
            proxies[cluster.servers[cluster.owner(key)].port].treat = drip(0.05)
            began = time.monotonic()
            with pytest.raises(BackendUnavailable):
                await backend.arun(Get(key))
            assert time.monotonic() - began < 1.5
            await backend.aclose()


def test_clients_of_two_kinds_are_refused(cluster: Cluster) -> None:
    """One server's and a cluster's are not the same data."""
    with (
        redis.RedisCluster.from_url(cluster.url) as client,
        pytest.raises(TypeError, match="not RedisCluster and Redis"),
    ):
        RustAuthStores.from_client(client, aioredis.Redis())
    with pytest.raises(TypeError, match="not Redis and RedisCluster"):
        RustAuthStores.from_client(redis.Redis(), aioredis.RedisCluster.from_url(cluster.url))


def move(cluster: Cluster, slot: int, source: int, target: int) -> Iterator[None]:
    """Move an empty slot; each step leaves the cluster in another state."""
    ids = [cluster.tell(server, "CLUSTER", "MYID") for server in range(SIZE)]
    cluster.tell(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    cluster.tell(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    yield
    for server in (target, source, *(set(range(SIZE)) - {target, source})):
        cluster.tell(server, "CLUSTER", "SETSLOT", slot, "NODE", ids[target])
    # What the servers told each other before may still be on its way.
    deadline = time.monotonic() + 30
    while {holder_of(cluster, server, slot) for server in range(SIZE)} != {ids[target]}:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield


def holder_of(cluster: Cluster, server: int, slot: int) -> Any:
    """Which server holds a slot, as one of them sees it."""
    ranges = cluster.tell(server, "CLUSTER", "SLOTS")
    return next((node[2] for first, last, node, *_ in ranges if first <= slot <= last), None)


def test_a_slot_that_moves_is_followed(
    cluster: Cluster, storage: Face, limits: Face, prefix: str, subjects: list[str]
) -> None:
    """While it moves and after: scripts and plain commands, and nobody sees an error."""
    # Keys of other tests may be in the slot.
    for server in range(SIZE):
        cluster.tell(server, "FLUSHALL")
    name = subjects[0]
    both = [(name, RateLimitRule.parse("9/m")), (subjects[1], RateLimitRule.parse("9/m"))]
    storage.list_keys()
    slot = key_slot(f"{prefix}limits:{name}".encode())
    moving = move(cluster, slot, source=0, target=2)
    next(moving)
    assert limits.consume_all(both, T).remaining == 8
    assert [cluster.tell(server, "CLUSTER", "COUNTKEYSINSLOT", slot) for server in (0, 2)] == [0, 1]
    next(moving)
    assert limits.consume_all(both, T).remaining == 7
    key = f"{{{prefix}limits:{name}}}"  # in the same slot
    back = move(cluster, slot, source=2, target=0)
    limits.reset(name)
    next(back)
    storage.set(f"x{key}", "value", 60)
    assert storage.get(f"x{key}") == "value"
    next(back)
    assert storage.take(f"x{key}") == "value"


def keys_on_each(cluster: Cluster, prefix: str, each: int = 2) -> list[str]:
    """So many keys on each of the servers."""
    found: dict[int, list[str]] = {server: [] for server in range(SIZE)}
    for number in itertools.count():
        on_this = found[cluster.owner(f"{prefix}{number}")]
        if len(on_this) < each:
            on_this.append(f"{prefix}{number}")
        if all(len(keys) == each for keys in found.values()):
            break
    return [key for keys in found.values() for key in keys]


def test_several_reads_go_to_all_servers_at_once(
    prefix: str, runner: asyncio.Runner | None
) -> None:
    """Nobody waits for one of them before the next is asked; keys come in their order."""
    options = {"socket_timeout": 0.5, "socket_connect_timeout": 5}
    with (
        Cluster() as cluster,
        RustAuthStores.from_url(cluster.url, client_options=options, cluster=True) as stores,
    ):
        face, keys = Face(stores.backend, runner), keys_on_each(cluster, prefix)
        for key in keys[1:]:
            face.run(Set(key, key, 60_000))
        assert face.run(GetMany(tuple(keys))) == [None, *keys[1:]]
        asked = counted(cluster, "get")
        for silent in cluster.servers:
            silent.stop_answering()
            with pytest.raises(BackendUnavailable):
                face.run(GetMany(tuple(keys)))
            silent.answer_again()
        assert face.run(GetMany(tuple(keys))) == [None, *keys[1:]]
        # Each time all servers were asked; those that said nothing did so later, or never.
        assert counted(cluster, "get") - asked >= 3 * (SIZE - 1) * 2 + len(keys)
        if runner:
            runner.run(stores.aclose())


def test_several_reads_follow_a_slot_that_moves(
    cluster: Cluster, stores: RustAuthStores, prefix: str, runner: asyncio.Runner | None
) -> None:
    """While it moves and after."""
    face, keys = Face(stores.backend, runner), keys_on_each(cluster, prefix)
    for key in keys[1:]:
        face.run(Set(key, key, 60_000))
    with redis.Redis(port=cluster.servers[1].port) as raw:
        raw.delete(keys[3])
        raw.lpush(keys[3], "x")
    found = [None, *keys[1:3], None, *keys[4:]]
    for source, target in ((0, 2), (2, 0)):
        moving = move(cluster, key_slot(keys[0].encode()), source, target)
        next(moving)
        assert face.run(GetMany(tuple(keys))) == found
        next(moving)
        assert face.run(GetMany(tuple(keys))) == found


def test_threads_that_read_of_all_servers_do_not_block_each_other(
    cluster: Cluster, prefix: str
) -> None:
    """With one connection to each server."""
    options = {**PATIENT, "max_connections": 1}
    keys = tuple(keys_on_each(cluster, prefix))
    with (
        RustAuthStores.from_url(cluster.url, client_options=options, cluster=True) as stores,
        ThreadPoolExecutor(8) as pool,
    ):
        for key in keys:
            stores.backend.run(Set(key, key, 60_000))
        orders = [keys, keys[::-1], keys[2:] + keys[:2], keys[4:] + keys[:4]]
        calls = [pool.submit(stores.backend.run, GetMany(order)) for order in orders * 100]
        assert [call.result() for call in calls] == [list(order) for order in orders] * 100


@pytest.mark.parametrize("place", range(SIZE))
def test_a_server_that_says_nothing_holds_up_no_other(prefix: str, place: int) -> None:
    """Whoever waits for it keeps no connection of those that have answered."""
    options = {"socket_timeout": 3, "socket_connect_timeout": 5, "max_connections": 2}
    with (
        Cluster() as cluster,
        RustAuthStores.from_url(cluster.url, client_options=options, cluster=True) as stores,
        ThreadPoolExecutor(8) as pool,
    ):
        keys = keys_on_each(cluster, prefix, 1)
        for key in keys:
            stores.backend.run(Set(key, key, 60_000))
        # Servers are asked in the order of their ports.
        silent = sorted(cluster.servers, key=lambda server: server.port)[place]
        others = [key for key in keys if cluster.servers[cluster.owner(key)] is not silent]
        silent.stop_answering()
        waiting = [pool.submit(stores.backend.run, GetMany(tuple(keys))) for _ in range(8)]
        started = time.monotonic()
        for _ in range(20):
            for key in others:
                assert stores.backend.run(Get(key)) == key
        assert time.monotonic() - started < 2
        for one in waiting:
            with pytest.raises(BackendError):
                one.result()
        silent.answer_again()


def test_a_signal_handler_s_exception_reaches_its_caller(
    cluster: Cluster, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no outcome of a server's, and what was sent elsewhere is not read by the next call."""

    class Interrupted(Exception):
        """A time limit on a task."""

    keys = keys_on_each(cluster, prefix, 1)
    with RustAuthStores.from_url(cluster.url, client_options=PATIENT, cluster=True) as stores:
        for key in keys:
            stores.backend.run(Set(key, key, 60_000))

        def strike(self: Any) -> Any:
            raise Interrupted

        with monkeypatch.context() as patch:
            patch.setattr(Started, "finish", strike)
            with pytest.raises(Interrupted):
                stores.backend.run(GetMany(tuple(keys)))
        assert stores.backend.run(GetMany(tuple(keys))) == keys


async def test_a_slot_that_moves_is_followed_by_a_callers_clients(
    cluster: Cluster, prefix: str
) -> None:
    """While it moves and after; and that it has moved is learned from the async one too."""
    key = next(f"{prefix}{i}" for i in itertools.count() if cluster.owner(f"{prefix}{i}") == 1)
    with redis.RedisCluster.from_url(cluster.url) as client:
        async with aioredis.RedisCluster.from_url(cluster.url) as async_client:
            backend = open_cluster_client(client, async_client)
            for source, target in ((1, 0), (0, 1)):
                assert not await backend.arun(Delete(key))
                moving = move(cluster, key_slot(key.encode()), source, target)
                next(moving)
                assert await backend.arun(Set(key, "value", 60_000))
                assert backend.run(Get(key)) == "value"
                next(moving)
                backend._is_doubtful = False
                assert await backend.arun(Get(key)) == "value"
                assert backend._is_doubtful
                assert backend.run(Take(key)) == "value"


def test_redirections_are_known_in_every_version() -> None:
    """redis-py has classes for them, or it has plain errors."""
    for error in (redis.ResponseError("MOVED 7 h:1"), redis.exceptions.MovedError("7 h:1")):
        found = redirection_of(error)
        assert isinstance(found, redis.exceptions.MovedError)
        assert (found.slot_id, found.host, found.port) == (7, "h", 1)
    asked = redirection_of(redis.ResponseError("ASK 7 ::1:6379"))
    assert asked is not None
    assert not isinstance(asked, redis.exceptions.MovedError)
    assert (asked.host, asked.port) == ("::1", 6379)
    assert redirection_of(redis.ResponseError("ERR no")) is None


def test_who_is_there(stores: RustAuthStores) -> None:
    """One of the servers answers, and says that it is in a cluster."""
    assert stores.backend.run(Describe()).mode == "cluster"


@pytest.fixture
def storage_at(runner: asyncio.Runner | None) -> Iterator[Callable[..., Face]]:
    """The storage of a URL's cluster, with each face; closed in the end."""
    opened: list[RustAuthStores] = []

    def at(url: str, **client_options: Any) -> Face:
        stores = RustAuthStores.from_url(url, client_options=client_options, cluster=True)
        opened.append(stores)
        return Face(stores.secondary_storage, runner)

    yield at
    for stores in opened:
        if runner:
            runner.run(stores.aclose())
        stores.close()


@pytest.mark.slow
def test_servers_that_die_and_come_back(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One takes its keys with it until its slots are another's; all of them are an outage; and
    the first call that can succeed does."""
    monkeypatch.setattr("rustauth_django.engine.cluster.ASK_AGAIN_SECONDS", 0.05)
    with (
        Cluster() as cluster,
        RustAuthStores.from_url(
            cluster.url, key_prefix=prefix, client_options=PATIENT, cluster=True
        ) as stores,
        asyncio.Runner() as runner,
    ):
        names = one_on_each(cluster, prefix)
        rule = RateLimitRule.parse("5/m")
        every = [(name, rule) for name in names]
        faces = [
            (Face(stores.rate_limit_store, face), Face(stores.secondary_storage, face))
            for face in (None, runner)
        ]
        for limits, _ in faces:
            assert limits.consume_all(every, T).permitted
        cluster.servers[2].kill()
        for limits, _ in faces:
            with pytest.raises(BackendUnavailable):
                limits.consume(names[2], rule, T)
            with pytest.raises(BackendUnavailable):
                limits.consume_all(every, T)
            assert limits.peek(names[0], rule, T).remaining == 3
            assert limits.peek(names[1], rule, T).remaining == 3
        cluster.take_over(source=2, target=0)
        deadline = time.monotonic() + 30
        while True:
            try:
                assert faces[0][0].peek(names[2], rule, T).remaining == 5
                break
            except BackendUnavailable:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        assert faces[1][0].peek(names[2], rule, T).remaining == 5
        cluster.servers[2].start()
        cluster.kill()
        started = time.monotonic()
        for limits, storage in faces * 2:
            for name in names:
                with pytest.raises(BackendUnavailable):
                    limits.consume(name, rule)
            with pytest.raises(BackendUnavailable):
                storage.list_keys()
        assert time.monotonic() - started < 3
        cluster.start()
        for limits, storage in faces:
            assert limits.consume_all(every, T).permitted
            assert storage.list_keys() == []
        runner.run(stores.aclose())


def test_no_server_is_unavailable(storage_at: Any) -> None:
    """At once, and again with the next call."""
    storage = storage_at("redis://127.0.0.1:1")
    started = time.monotonic()
    for call in (lambda: storage.get("key"), storage.list_keys, storage.clear):
        with pytest.raises(BackendUnavailable):
            call()
    assert time.monotonic() - started < 2


def test_threads_do_not_wait_in_line_for_a_cluster_that_is_away() -> None:
    """Where a server accepts and says nothing, each of 16 waits for its own time-out alone."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=64) as listener,
        RustAuthStores.from_url(
            f"redis://127.0.0.1:{listener.getsockname()[1]}", cluster=True
        ) as stores,
        ThreadPoolExecutor(16) as pool,
    ):
        started = time.monotonic()
        for call in [pool.submit(stores.secondary_storage.get, "key") for _ in range(16)]:
            with pytest.raises(BackendUnavailable):
                call.result()
        assert time.monotonic() - started < 4


def test_a_server_that_is_in_no_cluster_says_so(one_server: Server, storage_at: Any) -> None:
    """That is an answer, and no outage that will pass."""
    with pytest.raises(BackendError, match="cluster support disabled") as caught:
        storage_at(one_server.url, **PATIENT).get("key")
    assert not isinstance(caught.value, BackendUnavailable)


def test_credentials_are_in_no_message(cluster: Cluster, storage_at: Any) -> None:
    """Nor in what is printed of the stores, which names the address alone."""
    url = cluster.url.replace("redis://", "redis://somebody:secret@")
    with pytest.raises(BackendUnavailable) as caught:
        storage_at(url, **PATIENT).get("s3cr3t")
    stores = RustAuthStores.from_url(url, cluster=True)
    for shown in (str(caught.value), repr(stores), repr(stores.backend), stores.backend.location):
        for word in ("secret", "somebody", "s3cr3t"):
            assert word not in shown
    address = cluster.url.removesuffix("/0")
    assert stores.backend.location == f"the cluster at {address}"


def test_arguments_are_in_no_message(
    cluster: Cluster, stores: RustAuthStores, runner: asyncio.Runner | None
) -> None:
    """Not even where a slot that moves has a command sent in a pipeline, which quotes them."""
    key = next(f"s3cr3t-{i}" for i in itertools.count() if cluster.owner(f"s3cr3t-{i}") == 0)
    ids = [cluster.tell(server, "CLUSTER", "MYID") for server in range(SIZE)]
    slot = key_slot(key.encode())
    with ExitStack() as stack:
        for server, state, other in ((1, "IMPORTING", 0), (0, "MIGRATING", 1)):
            cluster.tell(server, "CLUSTER", "SETSLOT", slot, state, ids[other])
            stack.callback(cluster.tell, server, "CLUSTER", "SETSLOT", slot, "STABLE")
        cluster.tell(1, "ACL", "SETUSER", "default", "-getdel")
        stack.callback(cluster.tell, 1, "ACL", "SETUSER", "default", "+getdel")
        with pytest.raises(BackendError, match="no permissions") as caught:
            Face(stores.backend, runner).run(Take(key))
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://", "memory:// is no cluster; write redis://host:port"),
        ("unix:///run/secret.sock", "unix:// is no cluster; write redis://host:port"),
        ("redis://:secret@host/3", "database 0 alone"),
        ("redis://:secret@host?db=3", "database 0 alone"),
        ("http://:secret@host", "must start with one of"),
    ],
)
def test_a_url_of_no_cluster_is_refused(url: str, message: str) -> None:
    """The message says what to write, and quotes nothing."""
    with pytest.raises(InvalidConfig, match=message) as caught:
        RustAuthStores.from_url(url, cluster=True)
    assert "secret" not in str(caught.value)


def test_client_options_reach_every_server(cluster: Cluster, prefix: str) -> None:
    """And one that redis-py does not know is found before any is used."""
    with RustAuthStores.from_url(
        cluster.url,
        client_options={**PATIENT, "client_name": "app"},
        key_prefix=prefix,
        cluster=True,
    ) as stores:
        for i in range(20):
            stores.secondary_storage.get(f"key-{i}")
        for server in range(SIZE):
            assert b"name=app" in cluster.tell(server, "CLIENT", "LIST")
    with pytest.raises(InvalidConfig, match="socket_timeoutt"):
        RustAuthStores.from_url(cluster.url, client_options={"socket_timeoutt": 1}, cluster=True)
