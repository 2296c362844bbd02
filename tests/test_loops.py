"""One connection for all tasks of a loop: lent ones, silent ones, loops that are busy."""

import asyncio
import collections
import random
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from redis import asyncio as aioredis

from rustauth_django import BackendUnavailable, RustAuthStores, SecondaryStorage
from rustauth_django.engine.loops import LoopWires, Stream

from .proxies import Proxy, swallow, whole
from .servers import Server, free_port


def lent(server: Server, most: int) -> tuple[Any, RustAuthStores]:
    """A client of the caller's with so many connections, and stores on it."""
    pool = aioredis.BlockingConnectionPool.from_url(
        server.plain_url, max_connections=most, timeout=5
    )
    client = aioredis.Redis(connection_pool=pool)
    sync_client = redis.Redis(port=server.port)
    return client, RustAuthStores.from_client(sync_client, client)


def stream_of(stores: RustAuthStores) -> Stream:
    """The connection of the running loop's tasks."""
    loops: LoopWires = stores.backend._loops  # type: ignore[attr-defined]
    return loops._wires[asyncio.get_running_loop()][0]._streams[False]


def in_use(client: Any) -> int:
    return len(client.connection_pool._in_use_connections)


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_a_lent_connection_is_given_back_once(
    one_server: Server, prefix: str, most: int
) -> None:
    """However many replies come at once; and nobody gets an answer of the owner's."""
    client, stores = lent(one_server, most)
    storage, found = stores.secondary_storage, collections.Counter[str]()
    problems: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    for i in range(20):
        await storage.aset(f"{prefix}{i}", f"ours {i}", 60)
        await client.set(f"{prefix}own{i}", f"own {i}", ex=60)

    async def ours(i: int) -> None:
        for _ in range(50):
            found[str(await storage.aget(f"{prefix}{i}") == f"ours {i}")] += 1

    async def own(i: int) -> None:
        for _ in range(50):
            found[str(await client.get(f"{prefix}own{i}") == f"own {i}".encode())] += 1

    await asyncio.gather(*map(ours, range(10)), *map(own, range(3)))
    assert found == {"True": 650}
    await stores.aclose()
    assert not in_use(client)
    assert problems == []
    await client.connection_pool.disconnect()


@pytest.mark.parametrize("turns", range(12))
async def test_a_cancelled_call_holds_no_lent_connection(
    one_server: Server, prefix: str, turns: int
) -> None:
    """Of a pool that is too small for that, wherever the call is."""
    client, stores = lent(one_server, 1)
    call = asyncio.ensure_future(stores.secondary_storage.aget(f"{prefix}key"))
    for _ in range(turns):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    assert await asyncio.wait_for(client.get(f"{prefix}key"), 2) is None
    await stores.aclose()
    assert not in_use(client)
    await client.connection_pool.disconnect()


@pytest.mark.parametrize("most", [1, 3, 4])
async def test_a_lent_connection_that_the_server_has_closed_is_opened_anew(
    one_server: Server, prefix: str, most: int
) -> None:
    """redis-py may not look, and then nobody would ever answer."""
    client, stores = lent(one_server, most)
    with redis.Redis(port=one_server.port) as raw:
        for _ in range(3):
            # The owner's own call may find its connection closed.
            with suppress(redis.ConnectionError):
                await client.get(f"{prefix}key")
            raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await asyncio.sleep(0.05)
            assert await asyncio.wait_for(stores.secondary_storage.aget(f"{prefix}key"), 2) is None
    await stores.aclose()
    assert not in_use(client)
    await client.connection_pool.disconnect()


async def test_callers_of_a_small_pool_come_and_go(one_server: Server, prefix: str) -> None:
    """At any moment, and nobody is told that a healthy server has closed a connection."""
    client, stores = lent(one_server, 3)
    rng = random.Random(1)

    async def call() -> None:
        for _ in range(200):
            assert await stores.secondary_storage.aget(f"{prefix}key") is None
            await asyncio.sleep(rng.choice((0, 0, 0.0002, 0.001)))

    await asyncio.gather(*[call() for _ in range(12)])
    await stores.aclose()
    assert not in_use(client)
    await client.connection_pool.disconnect()


async def test_a_silent_connection_is_left_by_impatient_callers_too(
    one_server: Server, prefix: str
) -> None:
    """Whoever waits shorter than socket_timeout does not keep it."""
    with Proxy(one_server.port) as proxy:
        options = {"socket_timeout": 0.3, "socket_connect_timeout": 5}
        async with RustAuthStores.from_url(proxy.url, client_options=options) as stores:
            storage = stores.secondary_storage
            await storage.aset(f"{prefix}key", "value", 60)
            silent = stream_of(stores)
            proxy.treat = swallow
            started = time.monotonic()
            while time.monotonic() - started < 10:
                try:
                    async with asyncio.timeout(0.2):
                        await storage.aget(f"{prefix}key")
                except TimeoutError:
                    if not silent.is_usable:
                        break
            proxy.treat = whole
            assert await storage.aget(f"{prefix}key") == "value"
            # Calls that are under way have their own deadlines.
            for _ in range(500):
                if not silent.is_closing:
                    await asyncio.sleep(0.02)
            assert silent.is_closing


async def test_a_busy_loop_does_not_wait_for_ever(one_server: Server) -> None:
    """Each turn of the loop comes too late for a timer."""
    with Proxy(one_server.port) as proxy:
        options = {"socket_timeout": 0.3, "socket_connect_timeout": 5}
        async with RustAuthStores.from_url(proxy.url, client_options=options) as stores:
            await stores.secondary_storage.aget("key")
            proxy.treat = swallow
            call, started = asyncio.ensure_future(stores.secondary_storage.aget("key")), 0.0
            started = time.monotonic()
            while not call.done() and time.monotonic() - started < 10:
                time.sleep(0.08)  # noqa: ASYNC251  # as a busy loop does
                await asyncio.sleep(0)
            assert time.monotonic() - started < 5
            with pytest.raises(BackendUnavailable):
                await call


@pytest.mark.slow
async def test_a_loop_that_stands_still_is_no_outage(one_server: Server) -> None:
    """While a connection is opened, and while a reply is awaited."""
    async with RustAuthStores.from_url(one_server.plain_url) as stores:
        for _ in range(2):
            call = asyncio.ensure_future(stores.secondary_storage.aget("absent"))
            while not call.done():
                time.sleep(0.2)  # noqa: ASYNC251  # as a busy loop does
                await asyncio.sleep(0)
            assert await call is None


async def test_closing_cancels_no_caller(one_server: Server) -> None:
    """A call whose connection is just being opened fails, and its task goes on."""
    with Proxy(one_server.port) as proxy:
        proxy.treat = swallow
        options = {"protocol": 3, "socket_connect_timeout": 20}
        stores = RustAuthStores.from_url(proxy.url, client_options=options)
        call = asyncio.ensure_future(stores.secondary_storage.aget("key"))
        await asyncio.sleep(0.05)
        await stores.aclose()
        with pytest.raises(BackendUnavailable):
            await call
        call = asyncio.ensure_future(stores.secondary_storage.aget("key"))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        await stores.aclose()


async def test_a_retired_connection_is_closed(one_server: Server, prefix: str) -> None:
    """When its last calls were cancelled, and at the latest by aclose()."""
    with Proxy(one_server.port) as proxy:
        options = {"socket_timeout": 0.2, "socket_connect_timeout": 5}
        stores = RustAuthStores.from_url(proxy.url, client_options=options)
        storage, streams = stores.secondary_storage, []
        for _ in range(3):
            proxy.treat = whole
            await storage.aset(f"{prefix}key", "value", 60)
            streams.append(stream_of(stores))
            proxy.treat = swallow
            first = asyncio.ensure_future(storage.aget(f"{prefix}key"))
            await asyncio.sleep(0.1)
            second = asyncio.ensure_future(storage.aget(f"{prefix}key"))
            await asyncio.wait([first])
            second.cancel()
            await asyncio.wait([first, second])
        await stores.aclose()
        assert all(stream.is_closing for stream in streams)


def test_a_connection_that_was_closed_between_two_runs_is_not_used(one_server: Server) -> None:
    """While the loop stood still nobody noticed; the sync face looks as well."""
    with (
        redis.Redis(port=one_server.port) as raw,
        asyncio.Runner() as runner,
        RustAuthStores.from_url(one_server.plain_url) as stores,
    ):
        storage: SecondaryStorage = stores.secondary_storage
        runner.run(storage.aset("between-runs", "value", 60))
        for _ in range(3):
            raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            time.sleep(0.1)
            assert storage.get("between-runs") == "value"
            assert runner.run(storage.aget("between-runs")) == "value"
        runner.run(stores.aclose())


@pytest.mark.skipif(
    not hasattr(asyncio, "eager_task_factory"), reason="tasks start eagerly from Python 3.12 on"
)
async def test_tasks_may_start_eagerly(tmp_path: Path) -> None:
    """Opening may fail before there is a task for it."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
    stores = RustAuthStores.from_url(f"unix://{tmp_path / 'socket'}")
    for _ in range(2):
        with pytest.raises(BackendUnavailable):
            await stores.secondary_storage.aget("key")
    await stores.aclose()


async def test_a_server_that_is_not_there_leaves_nothing_open() -> None:
    """A call fails, and so does the next."""
    stores = RustAuthStores.from_url(f"redis://127.0.0.1:{free_port()}/0")
    for _ in range(2):
        with pytest.raises(BackendUnavailable):
            await stores.secondary_storage.aget("key")
    await stores.aclose()
