"""A ``redis.asyncio`` client for each event loop.

Such a client belongs to the loop that it first ran on. ``async_to_sync``, test runners
and reloaders come with loops of their own, so each running loop gets a client, which
is closed as the loop shuts down.
"""

import asyncio
import inspect
from collections.abc import AsyncGenerator
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from redis import Redis
from redis import asyncio as aioredis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.connection import SSLConnection, UnixDomainSocketConnection
from redis.sentinel import SentinelConnectionPool

from ..exceptions import InvalidConfig

# What an async connection takes over from a sync one, besides the options of TLS.
SHARED = frozenset(
    {
        "host",
        "port",
        "path",
        "db",
        "username",
        "password",
        "credential_provider",
        "socket_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_keepalive_options",
        "socket_type",
        "encoding",
        "encoding_errors",
        "decode_responses",
        "health_check_interval",
        "client_name",
        "protocol",
    }
)
# More threads, or tasks on one loop, than this wait for their turn, for so many seconds:
# for clients made from a URL, and where a given client's pool has no limit of its own.
MAX_CONNECTIONS = 100
WAIT_SECONDS = 1.0
UNLIMITED = 2**31


class LoopClients:
    """The async side of a sync client: ``given``, or a twin for each running loop."""

    def __init__(self, client: "Redis", given: "aioredis.Redis | None") -> None:
        self._sync_client = client
        self._given = given
        self._lock = Lock()
        self._clients: WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[aioredis.Redis, AsyncGenerator[None]]
        ] = WeakKeyDictionary()

    async def client(self) -> "aioredis.Redis":
        """The running loop's client."""
        if self._given is not None:
            return self._given
        loop = asyncio.get_running_loop()
        found = self._clients.get(loop)
        return found[0] if found else await self._open(loop)

    async def aclose(self) -> None:
        """Close the running loop's client, if this object made it."""
        found = self._clients.get(asyncio.get_running_loop())
        if found:
            await found[1].aclose()

    async def _open(self, loop: asyncio.AbstractEventLoop) -> "aioredis.Redis":
        client = twin(self._sync_client)
        keeper = self._keep(loop, client)
        with self._lock:
            # A client refers to its loop, which would keep a loop that nobody shut
            # down in this dictionary for ever.
            for other in [other for other in self._clients if other.is_closed()]:
                del self._clients[other]
            self._clients[loop] = client, keeper
        await anext(keeper)
        return client

    async def _keep(
        self, loop: asyncio.AbstractEventLoop, client: "aioredis.Redis"
    ) -> AsyncGenerator[None]:
        # Loops close their unfinished async generators as they shut down
        # (loop.shutdown_asyncgens): the one moment when a client can still be closed.
        try:
            yield
        finally:
            with self._lock:
                self._clients.pop(loop, None)
            await close(client)


async def close(client: "aioredis.Redis") -> None:
    """Close a client and, where it has sentinels, the clients that ask them."""
    await client.aclose(close_connection_pool=True)
    manager = getattr(client.connection_pool, "sentinel_manager", None)
    for sentinel in manager.sentinels if manager else ():
        await sentinel.aclose()


def twin(client: "Redis") -> "aioredis.Redis":
    """An async client with the address, the credentials and the limits of a sync one.

    Raises ``InvalidConfig`` if there is something that it could not honour.
    """
    pool = client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        return _sentinel_twin(pool)
    if issubclass(pool.connection_class, UnixDomainSocketConnection):
        connection_class: Any = aioredis.UnixDomainSocketConnection
    elif issubclass(pool.connection_class, SSLConnection):
        connection_class = aioredis.SSLConnection
    else:
        connection_class = aioredis.Connection
    return aioredis.Redis.from_pool(
        aioredis.BlockingConnectionPool(
            max_connections=(
                pool.max_connections if pool.max_connections < UNLIMITED else MAX_CONNECTIONS
            ),
            timeout=getattr(pool, "timeout", WAIT_SECONDS),
            connection_class=connection_class,
            **_options(pool.connection_kwargs, connection_class),
        )
    )


def _sentinel_twin(pool: SentinelConnectionPool) -> "aioredis.Redis":
    manager = pool.sentinel_manager
    sentinels = [
        (options["host"], options["port"])
        for options in (s.connection_pool.connection_kwargs for s in manager.sentinels)
    ]
    secure = bool(pool.connection_kwargs.get("ssl", False)) or issubclass(
        pool.connection_class, SSLConnection
    )
    connection_class = aioredis.SSLConnection if secure else aioredis.Connection
    sentinel = AsyncSentinel(  # type: ignore[no-untyped-call]
        sentinels,
        sentinel_kwargs=_options(manager.sentinel_kwargs, aioredis.Connection),
    )
    master: aioredis.Redis = sentinel.master_for(
        pool.service_name, ssl=secure, **_options(pool.connection_kwargs, connection_class)
    )
    return master


def _options(options: dict[str, Any], connection_class: Any) -> dict[str, Any]:
    """Those of a sync connection's options that an async one has to honour."""
    shared = {name: value for name, value in options.items() if name in SHARED}
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    if issubclass(connection_class, aioredis.SSLConnection):
        known = inspect.signature(aioredis.SSLConnection).parameters
        for name in tls.keys() - known.keys():
            if tls.pop(name):
                raise InvalidConfig(
                    f"the client option {name!r} has no async form in this redis-py;"
                    " pass an async_client of your own"
                )
        shared |= tls
    if retry := options.get("retry"):
        shared["retry"] = AsyncRetry(retry._backoff, retry._retries)
    return shared
