"""Both stores on one backend."""

import re
from typing import Any, Self
from urllib.parse import urlsplit

from redis import BlockingConnectionPool, Redis
from redis import asyncio as aioredis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.credentials import CredentialProvider
from redis.retry import Retry

from .backends.base import Backend
from .backends.memory import MemoryBackend
from .backends.redis import RedisBackend
from .exceptions import InvalidConfig
from .keyspace import DEFAULT_PREFIX, DEFAULT_SCAN_COUNT
from .ratelimit import RateLimitStore
from .storage import SecondaryStorage

# A pool has a place for each connection from the start.
MAX_CONNECTIONS = 65_535
OPTION_KINDS: dict[str, type] = {
    "max_connections": int,
    "retry": Retry,
    "socket_keepalive_options": dict,
    "credential_provider": CredentialProvider,
    "client_name": str,
}
REFUSED_OPTIONS = {"encoding", "encoding_errors", "command_packer", "redis_connect_func"}

SCHEMES = ("redis", "rediss", "valkey", "valkeys", "unix", "memory")


def client_defaults() -> dict[str, Any]:
    """How a client behaves in the path of a request, unless told otherwise.

    It waits for fractions of a second where redis-py waits for several. Nothing is
    sent twice: a retried ``take`` or ``consume`` may have been carried out the first
    time. RESP2 spares each new connection a handshake.
    """
    return {
        "socket_connect_timeout": 0.5,
        "socket_timeout": 0.5,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "max_connections": 100,
        "timeout": 1.0,
    }


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


def open_backend(url: str, client_options: dict[str, Any]) -> Backend:
    """The backend that ``url`` names (ST-42, ST-43)."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        listed = ", ".join(f"{name}://" for name in SCHEMES)
        raise InvalidConfig(f"the URL must start with one of {listed}")
    if scheme == "memory":
        return MemoryBackend()
    try:
        redis_url = f"{scheme.replace('valkey', 'redis')}://{rest}"
        database = urlsplit(redis_url).path.strip("/")
        if scheme != "unix" and database and not database.isdecimal():
            raise ValueError(database)  # redis-py would quietly take 0
        in_url = parse_url(redis_url)  # type: ignore[no-untyped-call]
    except ValueError:
        # Whatever the parser says may quote a part of the password.
        raise InvalidConfig(
            "the URL cannot be read; write scheme://user:password@host:port/database, with"
            " special characters in the user name and the password percent-encoded"
        ) from None
    options = client_defaults() | client_options | in_url
    check_options(options)
    try:
        pool = BlockingConnectionPool(**options)  # type: ignore[no-untyped-call]
        # Constructed, not connected: so that a wrong option is found now.
        pool.connection_class(**pool.connection_kwargs)
    except Exception as error:  # noqa: BLE001  # whatever the options made of it
        unknown = re.search(r"unexpected keyword argument ('\w+')", str(error))
        told = f"does not take the option {unknown[1]}" if unknown else "refuses these options"
        raise InvalidConfig(f"the redis client {told}") from None
    return RedisBackend(Redis.from_pool(pool), owned=True)


def check_options(options: dict[str, Any]) -> None:
    """Raise ``InvalidConfig`` for options that redis-py would stumble over only in use."""
    for name in ("socket_timeout", "socket_connect_timeout", "timeout", "health_check_interval"):
        value = options.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        least = 0 if name == "health_check_interval" else 1e-3
        if value is not None and not (is_number and value >= least):
            raise InvalidConfig(f"the client option {name!r} must be seconds above zero, or None")
    for name, kind in OPTION_KINDS.items():
        value = options.get(name)
        if value is not None and not isinstance(value, kind):
            raise InvalidConfig(f"the client option {name!r} must be of type {kind.__name__}")
    if not 0 < (options["max_connections"] or 0) <= MAX_CONNECTIONS:
        raise InvalidConfig(f"the client option 'max_connections' must be 1 to {MAX_CONNECTIONS}")
    for name in REFUSED_OPTIONS & options.keys():
        raise InvalidConfig(f"the client option {name!r} cannot be set: values are UTF-8 text")
    try:
        str(options.get("host", "")).encode("idna")
    except UnicodeError:
        raise InvalidConfig("the host in the URL is no host name") from None
