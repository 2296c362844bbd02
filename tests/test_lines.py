"""The wire under bad treatment: whoever calls gets the own answer in time, or an error."""

import asyncio
import gc
import os
import random
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from asgiref.sync import async_to_sync
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.exceptions import InvalidResponse

from rustauth_django import (
    BackendError,
    BackendOverloaded,
    BackendUnavailable,
    RateLimitRule,
    RustAuthStores,
)
from rustauth_django.engine import protocol
from rustauth_django.engine.operations import (
    CompareAndSet,
    Delete,
    Get,
    GetMany,
    Operation,
    Scan,
    Set,
    Take,
    TimeToLive,
    Unlink,
)
from rustauth_django.engine.plans import adrive, drive
from rustauth_django.engine.wire import borrowing_arguments
from rustauth_django.limits.operations import ReadFields
from rustauth_django.limits.outages import Limiter
from rustauth_django.verification.store import VerificationStore

from .faces import Face
from .proxies import Parrot, Proxy, drip, swallow
from .servers import PATIENT, Server

RULE = RateLimitRule(60, 100)
# For busy machines: what takes longer than twice its deadline has none.
QUICK = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5}


@pytest.fixture(params=["hiredis", "python"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With hiredis, and as if it were not installed."""
    if protocol.HIREDIS is None and request.param == "hiredis":
        pytest.skip("hiredis is not installed")
    if request.param == "python":
        monkeypatch.setattr(protocol, "HIREDIS", None)
    return str(request.param)


@pytest.fixture
def proxy(one_server: Server) -> Iterator[Proxy]:
    with Proxy(one_server.port) as proxy:
        yield proxy


# Replies as a server writes them.


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


SIMPLE = st.one_of(
    st.binary(max_size=40).map(bulk),
    st.integers(-(2**63), 2**63 - 1).map(lambda n: b":%d\r\n" % n),
    st.sampled_from(
        [b"+OK\r\n", b"$-1\r\n", b"*-1\r\n", b"_\r\n", b"#t\r\n", b"#f\r\n", b",1.5\r\n"]
    ),
    st.sampled_from([b"-ERR no\r\n", b"-WRONGTYPE Operation\r\n", b"-READONLY You can't\r\n"]),
)
REPLIES = st.recursive(
    SIMPLE,
    lambda inner: st.lists(inner, max_size=4).map(
        lambda items: b"*%d\r\n" % len(items) + b"".join(items)
    ),
    max_leaves=12,
)


def plain(reply: Any) -> Any:
    """A reply that can be compared: exceptions have no equality of their own."""
    if isinstance(reply, Exception):
        return type(reply), str(reply)
    return [plain(item) for item in reply] if isinstance(reply, list) else reply


def read_all(reader: Any, pieces: list[bytes]) -> list[Any]:
    found = []
    for piece in pieces:
        reader.feed(piece)
        while (reply := reader.gets()) is not protocol.INCOMPLETE:
            found.append(plain(reply))
    assert not reader.has_data()
    return found


@given(replies=st.lists(REPLIES, max_size=4), seed=st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_both_readers_read_the_same(replies: list[bytes], seed: int) -> None:
    """However the bytes are cut into pieces."""
    hiredis = pytest.importorskip("hiredis")
    data, rng = b"".join(replies), random.Random(seed)
    cuts = sorted(rng.randint(0, len(data)) for _ in range(rng.randint(0, 8)))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    options = {"replyError": protocol.error_of, "notEnoughData": protocol.INCOMPLETE}
    assert read_all(protocol.PythonReader(), pieces) == read_all(hiredis.Reader(**options), pieces)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b":12x\r\n",
        b"$x\r\n",
        b"*" * 70_000,
        b"*1\r\n" * 20 + b":1\r\n",
    ],
)
def test_what_is_no_reply_is_an_error(data: bytes) -> None:
    """It is not kept for ever in the hope that a reply comes of it."""
    reader = protocol.PythonReader()
    reader.feed(data)
    with pytest.raises(InvalidResponse):
        reader.gets()


def test_what_a_server_says_unasked_is_no_reply() -> None:
    """A push of RESP3 goes to nobody."""
    reader = protocol.PythonReader()
    reader.feed(b">2\r\n+message\r\n+hello\r\n%1\r\n+a\r\n:1\r\n~1\r\n:2\r\n")
    assert isinstance(reader.gets(), protocol.PUSHES)
    assert reader.gets() == {b"a": 1}
    assert reader.gets() == [2]


# Deadlines.


def timed(call: Callable[[], Any]) -> float:
    """The seconds until a call said that the server is away."""
    started = time.monotonic()
    with pytest.raises(BackendUnavailable):
        call()
    return time.monotonic() - started


def test_a_reply_that_drips_has_a_deadline(
    proxy: Proxy, prefix: str, runner: asyncio.Runner | None, reader: str
) -> None:
    """``socket_timeout`` is for the whole call, not for each byte; the next call is sound."""
    stores = RustAuthStores.from_url(proxy.url, key_prefix=prefix, client_options=QUICK)
    storage = Face(stores.secondary_storage, runner)
    storage.set("key", "x" * 1000, 60)
    proxy.treat = drip(0.05)
    assert 0.4 < timed(lambda: storage.get("key")) < 1.5
    proxy.treat = lambda data: [(0, data)]
    assert storage.get("key") == "x" * 1000
    close(stores, runner)


@pytest.mark.parametrize("treatment", [swallow, drip(0.2)], ids=["swallow", "drip"])
def test_opening_has_a_deadline(
    proxy: Proxy, prefix: str, runner: asyncio.Runner | None, treatment: Any
) -> None:
    """For all of its steps together; a server that says nothing, or too little, is away."""
    proxy.treat = treatment
    options = {"socket_timeout": 20, "socket_connect_timeout": 0.5, "protocol": 3}
    stores = RustAuthStores.from_url(proxy.url, key_prefix=prefix, client_options=options)
    storage = Face(stores.secondary_storage, runner)
    assert 0.4 < timed(lambda: storage.get("key")) < 1.5
    close(stores, runner)


def test_a_reply_that_is_cut_is_an_error(
    proxy: Proxy, prefix: str, runner: asyncio.Runner | None, reader: str
) -> None:
    """At every byte; and the next call has a connection of its own."""
    stores = RustAuthStores.from_url(proxy.url, key_prefix=prefix, client_options=PATIENT)
    storage = Face(stores.secondary_storage, runner)
    storage.set("key", "value", 60)
    for size in range(len(b"$5\r\nvalue\r\n")):
        proxy.cut_after = None
        assert storage.get("key") == "value"
        proxy.cut_after = size
        with pytest.raises(BackendUnavailable):
            storage.get("key")
    proxy.cut_after = None
    assert storage.get("key") == "value"
    close(stores, runner)


def close(stores: RustAuthStores, runner: asyncio.Runner | None) -> None:
    if runner:
        runner.run(stores.aclose())
    else:
        stores.close()


# Replies of the wrong kind.

OPERATIONS: list[Operation[Any]] = [
    Get("k"),
    Set("k", "v", 1000),
    Set("k", "v", 1000, "absent"),
    Delete("k"),
    Take("k"),
    CompareAndSet("k", None, "v", None),
    TimeToLive("k"),
    GetMany(("k",)),
    Scan("k", 0, 10),
    Unlink(("k",)),
    ReadFields("k"),
]


@pytest.mark.parametrize(
    "reply",
    [b"*1\r\n*1\r\n+x\r\n", b"+QUEUED\r\n", b":-7\r\n", b"#t\r\n", b",1.5\r\n", b"$1\r\nx\r\n"],
)
def test_a_reply_of_the_wrong_kind_is_an_error(reply: bytes, runner: asyncio.Runner | None) -> None:
    """It is never taken for success; a number or a text is right for some operations."""
    right = {b":-7\r\n": (int,), b"$1\r\nx\r\n": (Get, Take), b"+QUEUED\r\n": (Get, Take)}
    with Parrot(reply) as parrot:
        stores = RustAuthStores.from_url(parrot.url, client_options=QUICK)
        backend = Face(stores.backend, runner)
        for operation in OPERATIONS:
            is_number = isinstance(
                operation, Delete | TimeToLive | Unlink | CompareAndSet
            ) and reply.startswith(b":")
            if is_number or isinstance(operation, right.get(reply, ())):
                backend.run(operation)
                continue
            with pytest.raises(BackendError, match="reply is not") as caught:
                backend.run(operation)
            assert not isinstance(caught.value, BackendUnavailable)
        close(stores, runner)


def test_a_strange_server_makes_no_loop(runner: asyncio.Runner | None) -> None:
    """An array as the answer to SET is no key that was taken already."""
    with Parrot(b"*0\r\n") as parrot:
        stores = RustAuthStores.from_url(parrot.url, client_options=QUICK)
        store = Face(VerificationStore(stores.backend, secret="x"), runner)
        with pytest.raises(BackendError):
            store.create("purpose", ttl=60)
        assert parrot.commands <= 2
        close(stores, runner)


# Nobody gets another's answer.

KEYS = [f"key-{number}" for number in range(50)]


def fill(storage: Any) -> None:
    for key in KEYS:
        storage.set(key, key * 20, 60)


async def read_and_cancel(storage: Any, calls: int, rng: random.Random) -> int:
    """Reads of one task, each of which may be cancelled at any moment; how many came to an end."""
    ended = 0
    for _ in range(calls):
        key = rng.choice(KEYS)
        task = asyncio.ensure_future(storage.aget(key))
        if rng.random() < 0.5:
            for _ in range(rng.randint(0, 4)):
                await asyncio.sleep(0)
            task.cancel()
        try:
            assert await task == key * 20
            ended += 1
        except asyncio.CancelledError:
            pass
    return ended


async def test_cancelled_calls_mix_up_no_answers(
    one_server: Server, prefix: str, reader: str
) -> None:
    """10,000 calls of 50 tasks on one connection, half of them cancelled at random moments."""
    async with RustAuthStores.from_url(
        one_server.url, key_prefix=prefix, client_options=PATIENT
    ) as stores:
        fill(stores.secondary_storage)
        storage = stores.secondary_storage
        tasks = [read_and_cancel(storage, 200, random.Random(seed)) for seed in range(50)]
        ended = sum(await asyncio.gather(*tasks))
        assert 1_000 < ended < 10_000
        stores.close()


def test_timed_out_calls_mix_up_no_answers(
    proxy: Proxy, prefix: str, runner: asyncio.Runner | None
) -> None:
    """Replies that come too late, and by then are nobody's."""
    rng = random.Random(1)
    options = {"socket_timeout": 0.01, "socket_connect_timeout": 5, "timeout": 60}
    stores = RustAuthStores.from_url(proxy.url, key_prefix=prefix, client_options=options)
    storage = Face(stores.secondary_storage, runner)
    with RustAuthStores.from_url(
        f"redis://127.0.0.1:{proxy._server_port}", key_prefix=prefix
    ) as direct:
        fill(direct.secondary_storage)
    proxy.treat = lambda data: [(rng.choice([0, 0, 0, 0.02]), data)]
    ended = late = 0
    for _ in range(400):
        key = rng.choice(KEYS)
        try:
            assert storage.get(key) == key * 20
            ended += 1
        except BackendUnavailable:
            late += 1
    assert ended > 50
    assert late > 20
    close(stores, runner)


@pytest.mark.parametrize("reader", ["hiredis", "python"])
@pytest.mark.slow
def test_a_signal_handlers_exception_leaves_no_mess(
    one_server: Server, prefix: str, reader: str
) -> None:
    """It reaches the caller as it is, at whatever byte it strikes; no connection is lost for it."""
    command = [sys.executable, "-m", "tests.interrupted", one_server.url, prefix, reader]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parent.parent
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert int(result.stdout) > 100


# A server that cannot serve.


def is_idle(client: redis.Redis) -> bool:
    try:
        return client.ping()
    except redis.exceptions.ResponseError as error:
        return not str(error).startswith("BUSY")


@contextmanager
def busy(server: Server) -> Iterator[None]:
    """The server runs a script that does not end, and says so after ten milliseconds."""
    endless = "while true do end"
    with redis.Redis(port=server.port) as raw, ThreadPoolExecutor(1) as pool:
        before = raw.config_get("lua-time-limit")["lua-time-limit"]
        raw.config_set("lua-time-limit", 10)
        running = pool.submit(raw.eval, endless, 0)
        with redis.Redis(port=server.port) as other:
            while is_idle(other):
                pass
            try:
                yield
            finally:
                other.execute_command("SCRIPT", "KILL")
                assert "killed" in str(running.exception(timeout=10))
                other.config_set("lua-time-limit", before)


def test_a_server_that_is_busy_is_away(
    one_server: Server, prefix: str, runner: asyncio.Runner | None
) -> None:
    """And back when its script has ended; no call of before is answered then."""
    stores = RustAuthStores.from_url(one_server.url, key_prefix=prefix)
    storage = Face(stores.secondary_storage, runner)
    limits = Face(stores.rate_limit_store, runner)
    storage.set("key", "value", 60)
    with busy(one_server):
        for call in (
            lambda: storage.get("key"),
            lambda: limits.consume("key", RULE),
            lambda: storage.set("key", "other", 60),
        ):
            with pytest.raises(BackendUnavailable, match="BUSY"):
                call()
    assert storage.get("key") == "value"
    assert limits.consume("key", RULE).remaining == 99
    close(stores, runner)


def test_a_server_that_takes_no_more_clients_is_away(
    one_server: Server, prefix: str, runner: asyncio.Runner | None
) -> None:
    """Until there is room again."""
    stores = RustAuthStores.from_url(one_server.url, key_prefix=prefix)
    storage = Face(stores.secondary_storage, runner)
    with redis.Redis(port=one_server.port, single_connection_client=True) as raw:
        raw.config_set("maxclients", 1)
        try:
            for _ in range(3):
                with pytest.raises(BackendUnavailable, match=r"max number of clients|onnection"):
                    storage.get("key")
        finally:
            raw.config_set("maxclients", 10_000)
        storage.set("key", "value", 60)
        assert storage.get("key") == "value"
    close(stores, runner)


# Overload is no outage.


def test_many_threads_take_turns(one_server: Server, prefix: str) -> None:
    """500 on five connections, each served or refused as what it is; the limit holds."""
    options = {**PATIENT, "max_connections": 5}
    stores = RustAuthStores.from_url(one_server.url, key_prefix=prefix, client_options=options)
    with ThreadPoolExecutor(500) as pool:
        store = stores.rate_limit_store
        decisions = list(pool.map(lambda _: store.consume("key", RULE), range(2_000)))
    assert sum(decision.permitted for decision in decisions) == 100
    assert len(stores.backend._wire._idle) <= 5  # type: ignore[attr-defined]
    stores.close()


async def test_many_tasks_take_turns(one_server: Server, prefix: str) -> None:
    """6,000 at once on one connection are served in turn, and the limit holds."""
    stores = RustAuthStores.from_url(one_server.url, key_prefix=prefix, client_options=PATIENT)
    store = stores.rate_limit_store
    decisions = await asyncio.gather(*(store.aconsume("key", RULE) for _ in range(6_000)))
    assert sum(decision.permitted for decision in decisions) == 100
    await stores.aclose()


def test_overload_opens_no_breaker_and_no_second_quota(
    one_server: Server, prefix: str, runner: asyncio.Runner | None
) -> None:
    """A request that got no turn is refused with a 503; the server counts all the while."""
    options = {"max_connections": 1, "timeout": 0.05, "socket_timeout": 20}
    stores = RustAuthStores.from_url(one_server.url, key_prefix=prefix, client_options=options)
    limiter = Limiter(stores.backend, "local")
    operation = stores.rate_limit_store.consumption([("key", RULE)])
    wire = stores.backend._wire  # type: ignore[attr-defined]
    with redis.Redis(port=one_server.port) as raw:
        stores.secondary_storage.set("key", "value", 60)
        busy = wire._take()
        for _ in range(5):
            verdict = drive(limiter.consume(operation, None), stores.backend.run)
            assert not verdict.permitted
            assert verdict.retry_after == 1
        with pytest.raises(BackendOverloaded):
            drive(limiter.consume(operation, "raise"), stores.backend.run)
        assert drive(limiter.consume(operation, "allow"), stores.backend.run).permitted
        wire._put(busy, wire._idle)
        verdict = drive(limiter.consume(operation, None), stores.backend.run)
        assert verdict.remaining == 99  # type: ignore[union-attr]
        assert raw.ping()
    if runner:
        asked = runner.run(adrive(limiter.consume(operation, None), stores.backend.arun))
        assert asked.permitted
    close(stores, runner)


# Pools that are not ours.


@pytest.mark.parametrize("kind", [redis.ConnectionPool, redis.BlockingConnectionPool])
def test_a_pool_lends_its_connections(one_server: Server, prefix: str, kind: Any) -> None:
    """A quarter of them is held while idle, all go back on close, and the owner's work goes on."""
    pool = kind.from_url(one_server.url, max_connections=8)
    client = redis.Redis(connection_pool=pool)
    stores = RustAuthStores.from_client(client, key_prefix=prefix)
    barrier = threading.Barrier(6)

    def work(number: int) -> None:
        barrier.wait()
        for _ in range(50):
            stores.secondary_storage.set(f"key-{number}", str(number), 60)
            assert stores.secondary_storage.get(f"key-{number}") == str(number)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))
    assert len(stores.backend._wire._idle) == 2  # type: ignore[attr-defined]
    assert client.get(f"{prefix}secondary:key-1") == b"1"
    stores.close()
    taken = [pool.get_connection(*borrowing_arguments(pool)) for _ in range(8)]
    for connection in taken:
        connection.send_command("PING")
        assert connection.read_response() == b"PONG"
        pool.release(connection)
    client.close()


def test_a_pool_that_lends_no_more_is_no_outage(one_server: Server, prefix: str) -> None:
    """Its owner has all of its connections in use."""
    pool = redis.ConnectionPool.from_url(one_server.url, max_connections=1)
    taken = pool.get_connection(*borrowing_arguments(pool))
    stores = RustAuthStores.from_client(redis.Redis(connection_pool=pool), key_prefix=prefix)
    with pytest.raises(BackendOverloaded):
        stores.secondary_storage.get("key")
    pool.release(taken)
    assert stores.secondary_storage.get("key") is None
    stores.close()
    pool.disconnect()


# Nothing stays behind.


def test_loops_leave_nothing(one_server: Server, prefix: str) -> None:
    """200 of them, opened and closed: no file, no task."""
    stores = RustAuthStores.from_url(one_server.url, key_prefix=prefix)
    storage = stores.secondary_storage
    asyncio.run(storage.aget("key"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # for what other tests have left
        gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(200):
        if number % 2:
            asyncio.run(storage.aget("key"))
        else:
            async_to_sync(storage.aget)("key")
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
    assert not stores.backend._loops._wires  # type: ignore[attr-defined]


def test_a_connection_that_the_server_ended_is_noticed(
    one_server: Server, prefix: str, runner: asyncio.Runner | None
) -> None:
    """CLIENT KILL between two calls: the next one has another connection."""
    stores = RustAuthStores.from_url(one_server.url, key_prefix=prefix, client_options=PATIENT)
    storage = Face(stores.secondary_storage, runner)
    with redis.Redis(port=one_server.port) as raw:
        for _ in range(5):
            storage.set("key", "value", 60)
            raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            if runner:
                # The loop has to have a moment to hear of it.
                runner.run(asyncio.sleep(0.01))
            assert storage.get("key") == "value"
    close(stores, runner)


@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_of_the_protocol(
    one_server: Server, prefix: str, runner: asyncio.Runner | None, reader: str, version: int
) -> None:
    """RESP3 has other replies for some commands; the answers are the same."""
    stores = RustAuthStores.from_url(
        one_server.url, key_prefix=prefix, client_options={**PATIENT, "protocol": version}
    )
    storage, limits = Face(stores.secondary_storage, runner), Face(stores.rate_limit_store, runner)
    assert storage.get("key") is None
    storage.set("key", "grüße", 60)
    assert storage.get("key") == "grüße"
    assert storage.compare_and_set("key", "grüße", "b", 60)
    assert storage.list_keys() == ["key"]
    assert storage.ttl("key") == 60
    assert storage.take("key") == "b"
    assert limits.consume("key", RULE).remaining == 99
    assert limits.peek("key", RULE).remaining == 99
    root = stores.rate_limit_store.keyspaces[0].root
    fields = Face(stores.backend, runner).run(ReadFields(f"{root}key"))
    assert fields["count"] == "1"
    assert limits.reset("key")
    close(stores, runner)
