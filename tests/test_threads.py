"""Connections that threads share: in turn, in time, and sound after whatever has struck."""

import asyncio
import gc
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from redis.credentials import UsernamePasswordCredentialProvider
from redis.sentinel import Sentinel

from rustauth_django import (
    BackendError,
    BackendOverloaded,
    BackendUnavailable,
    InvalidConfig,
    RustAuthStores,
)
from rustauth_django.engine import protocol
from rustauth_django.engine.wire import Line, borrowing_arguments

from .clusters import ABLE, Cluster
from .faces import Face
from .proxies import Parrot, Proxy, swallow
from .servers import Server


class TaskTimeout(TimeoutError):
    """What a runner of jobs raises in its signal handler."""


class SoftLimit(Exception):
    """The same, as Celery has it."""


@contextmanager
def struck(error: type[Exception], seconds: float) -> Iterator[None]:
    """A signal handler that raises after so many seconds."""

    def handle(*_: Any) -> None:
        raise error

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class SlowSender(socket.socket):
    """As in a process whose other threads are busy, and keep this one waiting."""

    def sendall(self, data: Any, *flags: Any) -> None:
        super().sendall(data, *flags)
        time.sleep(0.2)


def test_a_reply_that_is_there_is_read_after_its_deadline() -> None:
    """Other threads were busy, and not the server; a server that says nothing has a deadline."""
    near, far = socket.socketpair()
    with near, far, SlowSender(fileno=near.detach()) as slow:
        line = Line(SimpleNamespace(_sock=slow, socket_timeout=0.1), None)
        far.sendall(b"+OK\r\n")
        assert line.call(b"PING\r\n", 1) == b"OK"
        started = time.monotonic()
        with pytest.raises(redis.TimeoutError):
            line.call(b"PING\r\n", 1)
        assert time.monotonic() - started < 1


@pytest.mark.slow
def test_threads_get_connections_in_turn(one_server: Server) -> None:
    """Each of twelve, on three connections that are always in use."""
    with Proxy(one_server.port) as proxy:
        proxy.treat = lambda data: [(0.02, data)]
        options = {"max_connections": 3, "socket_timeout": 10, "timeout": 10}
        with RustAuthStores.from_url(proxy.url, client_options=options) as stores:
            longest, ends_at = Counter[int](), time.monotonic() + 2

            def read(number: int) -> None:
                while time.monotonic() < ends_at:
                    started = time.monotonic()
                    stores.secondary_storage.get("absent")
                    waited = int((time.monotonic() - started) * 1000)
                    longest[number] = max(longest[number], waited)

            threads = [threading.Thread(target=read, args=(number,)) for number in range(12)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            # Who comes last waits for eight others on three connections.
            assert len(longest) == 12
            assert max(longest.values()) < 1000


def test_a_lent_connection_that_is_free_again_is_used(one_server: Server) -> None:
    """Also by a thread that waits for one inside of the pool."""
    with Proxy(one_server.port) as proxy:
        proxy.treat = lambda data: [(0.2, data)]
        pool = redis.BlockingConnectionPool(port=proxy.port, max_connections=4, timeout=10)  # type: ignore[no-untyped-call]
        owners = [pool.get_connection(*borrowing_arguments(pool)) for _ in range(3)]
        stores = RustAuthStores.from_client(redis.Redis(connection_pool=pool))
        started = time.monotonic()
        with ThreadPoolExecutor(2) as threads:
            found = list(threads.map(lambda _: stores.secondary_storage.get("absent"), range(2)))
        assert found == [None, None]
        assert time.monotonic() - started < 8
        for owner in owners:
            pool.release(owner)
        stores.close()
        pool.disconnect()


def test_waiting_for_a_lent_connection_ends_in_time(one_server: Server) -> None:
    """The pool's own time-out is for all of it."""
    pool = redis.BlockingConnectionPool(port=one_server.port, max_connections=1, timeout=1)  # type: ignore[no-untyped-call]
    taken = pool.get_connection(*borrowing_arguments(pool))
    stores = RustAuthStores.from_client(redis.Redis(connection_pool=pool))
    started = time.monotonic()
    with pytest.raises(BackendOverloaded):
        stores.secondary_storage.get("key")
    assert 0.9 < time.monotonic() - started < 1.8
    pool.release(taken)
    assert stores.secondary_storage.get("absent") is None
    stores.close()
    pool.disconnect()


def test_a_pool_that_its_owner_disconnects_is_no_outage(one_server: Server) -> None:
    """Even if the file's number is another's by then."""
    client = redis.Redis(port=one_server.port)
    stores, others = RustAuthStores.from_client(client), ExitStack()
    with others:
        for _ in range(5):
            assert stores.secondary_storage.get("absent") is None
            client.connection_pool.disconnect()
            for one in socket.socketpair():
                others.enter_context(one)
    stores.close()
    client.close()


def test_a_lost_connection_is_closed_at_once(one_server: Server) -> None:
    """And not by the garbage collector."""
    options = {"max_connections": 2}
    with RustAuthStores.from_url(one_server.plain_url, client_options=options) as stores:
        stores.secondary_storage.get("absent")
        wire, files = stores.backend._wire, len(os.listdir("/dev/fd"))  # type: ignore[attr-defined]
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                line = wire._take()
                del line
            assert len(os.listdir("/dev/fd")) <= files
        finally:
            gc.enable()


def test_a_handlers_exception_reaches_the_caller(one_server: Server) -> None:
    """As it is, also where it is a time-out by its class; and the next call is sound."""
    with Proxy(one_server.port) as proxy:
        options = {"socket_timeout": 20}
        with RustAuthStores.from_url(proxy.url, client_options=options) as stores:
            for error in (TaskTimeout, SoftLimit):
                proxy.treat = lambda data: [(0, data)]
                assert stores.secondary_storage.get("absent") is None
                proxy.treat = swallow
                with pytest.raises(error), struck(error, 0.1):
                    stores.secondary_storage.get("absent")


def test_a_handlers_exception_while_opening_is_not_the_providers() -> None:
    """Of credentials, that is."""
    provider = UsernamePasswordCredentialProvider("user", "password")
    options = {"socket_connect_timeout": 20, "credential_provider": provider}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        stores = RustAuthStores.from_url(url, client_options=options)
        with stores, pytest.raises(SoftLimit), struck(SoftLimit, 0.1):
            stores.secondary_storage.get("key")


class HalfGreeted(redis.Connection):
    """Is struck before the reply to its greeting is read."""

    is_armed = True

    def _host_error(self) -> str:
        # The first thing that redis-py calls as it reads a reply.
        if HalfGreeted.is_armed:
            HalfGreeted.is_armed = False
            raise SoftLimit
        return str(super()._host_error())


def test_a_lent_connection_that_is_half_greeted_is_not_used(one_server: Server) -> None:
    """redis-py puts it back into its pool, with a reply that is nobody's."""
    HalfGreeted.is_armed = True
    with Proxy(one_server.port) as proxy:
        proxy.treat = lambda data: [(0.03, data)]
        pool = redis.ConnectionPool(
            connection_class=HalfGreeted, port=proxy.port, max_connections=8, protocol=2
        )
        stores = RustAuthStores.from_client(redis.Redis(connection_pool=pool))
        try:
            found = stores.secondary_storage.get("absent")
        except SoftLimit:
            found = stores.secondary_storage.get("absent")
        assert found is None
        stores.close()
        pool.disconnect()


@pytest.mark.parametrize("reader", ["hiredis", "python"])
@pytest.mark.parametrize(
    "reply",
    [
        b"-MOVED x\r\n",
        b"-ASK\r\n",
        b",abc\r\n",
        b"%1\r\n*0\r\n+a\r\n",
        b"~1\r\n*0\r\n",
        b"(12x\r\n",
        b"-\r\n",
        b":\r\n",
        b"$\r\n",
    ],
)
def test_a_strange_reply_is_an_error_of_ours(
    reply: bytes, reader: str, runner: asyncio.Runner | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it makes redis-py or hiredis raise."""
    if reader == "python":
        monkeypatch.setattr(protocol, "HIREDIS", None)
    elif protocol.HIREDIS is None:
        pytest.skip("hiredis is not installed")
    with Parrot(reply) as parrot:
        stores = RustAuthStores.from_url(parrot.url)
        with pytest.raises(BackendError) as caught:
            Face(stores.secondary_storage, runner).get("key")
        assert not isinstance(caught.value, BackendUnavailable)
        if runner:
            runner.run(stores.aclose())
        stores.close()


@pytest.mark.parametrize(
    "reply",
    [
        b"+OK\r\n",
        b":1\r\n",
        b"*1\r\n*1\r\n:1\r\n",
        b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$-1\r\n$1\r\nx\r\n",
    ],
)
def test_a_strange_table_of_slots_is_an_error_of_ours(
    reply: bytes, runner: asyncio.Runner | None
) -> None:
    """On a server that only says that it is in a cluster."""
    with Parrot(reply) as parrot:
        stores = RustAuthStores.from_url(parrot.url, cluster=True)
        with pytest.raises(BackendError):
            Face(stores.secondary_storage, runner).get("key")
        if runner:
            runner.run(stores.aclose())
        stores.close()


@pytest.mark.slow
@pytest.mark.skipif(not ABLE, reason="there is no server that can be in a cluster")
def test_a_cluster_swallows_no_handlers_exception() -> None:
    """Nor does an overload make it doubt who holds which slots."""
    with Cluster() as cluster:
        options = {"socket_timeout": 20, "max_connections": 1, "timeout": 0.3}
        with RustAuthStores.from_url(cluster.url, cluster=True, client_options=options) as stores:
            for i in range(20):
                stores.secondary_storage.get(f"key-{i}")
            backend: Any = stores.backend
            lines = [node._wire._take() for node in backend._nodes.values()]
            started = time.monotonic()
            for _ in range(2):
                with pytest.raises(BackendOverloaded):
                    stores.secondary_storage.get("key-1")
            assert time.monotonic() - started < 1
            assert not backend._is_doubtful
            for line in lines:
                line.close()
            backend._is_doubtful, backend._ask_again_at = True, 0
            for server in cluster.servers:
                server.stop_answering()
            with pytest.raises(SoftLimit), struck(SoftLimit, 0.1):
                stores.secondary_storage.get("key-1")
            for server in cluster.servers:
                server.answer_again()


@pytest.mark.slow
def test_sentinels_behind_tls_get_no_plain_password(runner: asyncio.Runner | None) -> None:
    """The async face greets them with TLS as well."""
    heard: list[bytes] = []

    def listen(listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            with caller:
                caller.settimeout(0.2)
                try:
                    heard.append(caller.recv(1000))
                except OSError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=listen, args=(listener,), daemon=True).start()
        to_sentinels = {"ssl": True, "ssl_cert_reqs": "none", "password": "open sesame"}
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            [listener.getsockname()],
            sentinel_kwargs={**to_sentinels, "socket_timeout": 0.3},
            ssl=True,
        )
        client = sentinel.master_for("main", socket_connect_timeout=0.3)
        stores = RustAuthStores.from_client(client)
        with pytest.raises(BackendUnavailable):
            Face(stores.secondary_storage, runner).get("key")
        if runner:
            runner.run(stores.aclose())
        listener.shutdown(socket.SHUT_RDWR)
    assert heard
    assert {first[:1] for first in heard} == {b"\x16"}


def test_a_function_that_prepares_connections_has_no_async_form(one_server: Server) -> None:
    """So the async face says so, and does not read another database."""

    def to_database_5(connection: Any) -> None:
        connection.on_connect()
        connection.send_command("SELECT", 5)
        connection.read_response()

    client = redis.Redis(port=one_server.port, redis_connect_func=to_database_5)
    with RustAuthStores.from_client(client) as stores:
        assert stores.secondary_storage.get("absent") is None
        with pytest.raises(InvalidConfig, match="redis_connect_func"):
            asyncio.run(stores.secondary_storage.aget("absent"))
    client.close()
