"""One server, Redis or Valkey."""

from typing import Any

from redis import Redis
from redis.connection import SSLConnection
from redis.sentinel import SentinelConnectionPool

from ..exceptions import InvalidConfig
from .backends import ServerBackend
from .commands import Command, Several
from .loops import LoopWires
from .wire import Started, Wire


class RedisBackend(ServerBackend):
    """One server, alone or in a cluster: the connections of a redis-py client, and of a twin for
    each event loop.

    ``owned`` says that ``client`` was made for this backend and is closed with it.
    ``async_pool``, where there is one, is the pool of the caller's own asyncio client.
    """

    def __init__(
        self,
        client: "Redis",
        async_pool: Any = None,
        *,
        owned: bool = False,
    ) -> None:
        pool: Any = client.connection_pool
        if getattr(pool, "cache", None) is not None:
            raise InvalidConfig("a redis client with a cache of its own cannot be shared")
        self._wire = Wire(pool, owned=owned)
        self._loops = LoopWires(client, async_pool)
        self.location = describe_location(pool)

    def perform(self, command: Command, *, asking: bool = False) -> Any:
        return self._wire.call(command, asking=asking)

    def start(self, command: Several, *, waits: bool) -> Started | None:
        """Send commands whose replies are read later; None if it may not wait and would have to."""
        return self._wire.start(command, waits=waits)

    async def aperform(self, command: Command, *, asking: bool = False) -> Any:
        return await self._loops.call(command, asking=asking)

    def close(self) -> None:
        self._wire.close()

    async def aclose(self) -> None:
        await self._loops.aclose()
        self.close()


def describe_location(pool: Any) -> str:
    """A pool's address without its credentials."""
    options = pool.connection_kwargs
    if isinstance(pool, SentinelConnectionPool):
        return f"the primary of {pool.service_name!r}, database {options.get('db') or 0}"
    if path := options.get("path"):
        return f"unix://{path}"
    scheme = "rediss" if issubclass(pool.connection_class, SSLConnection) else "redis"
    address = f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return f"{scheme}://{address}/{options.get('db') or 0}"
