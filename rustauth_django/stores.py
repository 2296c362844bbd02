"""Both stores on one backend."""

from typing import Any, Self

from redis import Redis, RedisCluster
from redis import asyncio as aioredis

from .engine.backends import Backend, MemoryBackend
from .engine.keyspace import DEFAULT_PREFIX, DEFAULT_SCAN_COUNT
from .engine.opening import open_backend, open_cluster_client
from .engine.redis import RedisBackend
from .limits.refusals import LocalRefusals
from .limits.store import RateLimitStore
from .storage import SecondaryStorage


class RustAuthStores:
    """A secondary storage and a rate limit store that share one connection pool (CFG-02).

    ``close()``, or ``await aclose()`` where async twins were used, gives back the
    connections; so does leaving a ``with`` or ``async with`` block.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        key_prefix: str = DEFAULT_PREFIX,
        scan_count: int = DEFAULT_SCAN_COUNT,
        local_refusals: float = 0,
    ) -> None:
        # A memory backend needs no local refusals.
        if local_refusals and not isinstance(backend, MemoryBackend):
            backend = LocalRefusals(backend, local_refusals)
        self.backend = backend
        self.secondary_storage = SecondaryStorage(
            backend, key_prefix=key_prefix, scan_count=scan_count
        )
        self.rate_limit_store = RateLimitStore(
            backend, key_prefix=key_prefix, scan_count=scan_count
        )

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        key_prefix: str = DEFAULT_PREFIX,
        scan_count: int = DEFAULT_SCAN_COUNT,
        client_options: dict[str, Any] | None = None,
        cluster: bool = False,
    ) -> Self:
        """Stores on the server at ``url``; no connection is made before it is needed.

        ``client_options`` are options of redis-py's connections. With ``cluster`` the server is one
        of a Redis Cluster, and reports the others. Raises ``InvalidConfig``, which never quotes the
        URL.
        """
        backend = open_backend(url, client_options or {}, cluster=cluster)
        return cls(backend, key_prefix=key_prefix, scan_count=scan_count)

    @classmethod
    def from_client(
        cls,
        client: Redis | RedisCluster,
        async_client: "aioredis.Redis | aioredis.RedisCluster | None" = None,
        *,
        key_prefix: str = DEFAULT_PREFIX,
        scan_count: int = DEFAULT_SCAN_COUNT,
    ) -> Self:
        """Stores on a client that the caller owns and closes.

        Without ``async_client`` the async twins open connections of their own with the options of
        ``client``, for each event loop. With it they use the connections of that client, which must
        be of the same kind as ``client``, on the caller's loop.
        """
        backend: Backend
        match client, async_client:
            case Redis(), aioredis.Redis() | None:
                backend = RedisBackend(client, async_client and async_client.connection_pool)
            case RedisCluster(), aioredis.RedisCluster() | None:
                backend = open_cluster_client(client, async_client)
            case _:
                kinds = f"{type(client).__name__} and {type(async_client).__name__}"
                raise TypeError(
                    "client must be a redis.Redis or a redis.RedisCluster, and async_client of"
                    f" the same name in redis.asyncio or None, not {kinds}"
                )
        return cls(backend, key_prefix=key_prefix, scan_count=scan_count)

    def close(self) -> None:
        """Give back the connections opened for sync use."""
        self.backend.close()

    async def aclose(self) -> None:
        """Give back the connections opened for sync use and on the running loop."""
        await self.backend.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<RustAuthStores on {self.backend.location}>"
