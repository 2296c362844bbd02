"""Both stores on one backend."""

from typing import Any, Self

from redis import Redis
from redis import asyncio as aioredis

from .backends.base import Backend
from .backends.opening import open_backend
from .backends.redis import RedisBackend
from .keyspace import DEFAULT_PREFIX, DEFAULT_SCAN_COUNT
from .ratelimit import RateLimitStore
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
    ) -> None:
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
    ) -> Self:
        """Stores on the server at ``url``; no connection is made before it is needed.

        ``client_options`` go to the redis-py connection. Raises ``InvalidConfig``, which
        never quotes the URL.
        """
        backend = open_backend(url, client_options or {})
        return cls(backend, key_prefix=key_prefix, scan_count=scan_count)

    @classmethod
    def from_client(
        cls,
        client: Redis,
        async_client: "aioredis.Redis | None" = None,
        *,
        key_prefix: str = DEFAULT_PREFIX,
        scan_count: int = DEFAULT_SCAN_COUNT,
    ) -> Self:
        """Stores on a client that the caller owns and closes.

        Without ``async_client`` the async twins use clients of their own, made after
        ``client``, one for each event loop; with it, that one, on the caller's loop.
        """
        if not isinstance(client, Redis):
            raise TypeError(f"client must be a redis.Redis, not {type(client).__name__}")
        backend = RedisBackend(client, async_client)
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
