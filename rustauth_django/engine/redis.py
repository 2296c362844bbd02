"""One server, Redis or Valkey."""

from typing import Any

from redis import Redis
from redis import asyncio as aioredis
from redis.connection import SSLConnection
from redis.sentinel import SentinelConnectionPool

from .backends import ServerBackend
from .loops import LoopClients
from .operations import Command


class RedisBackend(ServerBackend):
    """One server, alone or in a cluster: a redis-py client, and its twin for each event loop.

    ``owned`` says that ``client`` was made for this backend and is closed with it.
    ``async_client``, where there is one, is the caller's own, on the caller's own loop.
    """

    def __init__(
        self,
        client: "Redis",
        async_client: "aioredis.Redis | None" = None,
        *,
        owned: bool = False,
    ) -> None:
        self._client = client
        self._owned = owned
        self._loops = LoopClients(client, async_client)
        self.location = describe_location(client.connection_pool)

    def perform(self, command: Command, *, asking: bool = False) -> Any:
        pool: Any = self._client.connection_pool
        connection = pool.get_connection()
        try:
            if asking:
                connection.send_command("ASKING")
                connection.read_response()
            connection.send_command(*command)
            return connection.read_response(disable_decoding=True)
        finally:
            pool.release(connection)

    async def aperform(self, command: Command, *, asking: bool = False) -> Any:
        client = await self._loops.client()
        pool: Any = client.connection_pool
        connection = await pool.get_connection()
        try:
            if asking:
                await connection.send_command("ASKING")
                await connection.read_response()
            await connection.send_command(*command)
            return await connection.read_response(disable_decoding=True)
        finally:
            await pool.release(connection)

    def close(self) -> None:
        if self._owned:
            self._client.close()

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
