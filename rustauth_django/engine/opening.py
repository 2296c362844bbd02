"""From a URL and a client's options to a backend, without a connection."""

import re
from typing import Any
from urllib.parse import urlsplit

from redis import BlockingConnectionPool, Redis, RedisCluster
from redis import asyncio as aioredis
from redis.cluster import ClusterNode
from redis.connection import parse_url
from redis.credentials import CredentialProvider

from ..exceptions import InvalidConfig
from .backends import Backend, MemoryBackend
from .cluster import ClusterBackend, NodePool
from .redis import RedisBackend
from .wire import MAX_CONNECTIONS, WAIT_SECONDS

# A pool has a place for each connection from the start.
MOST_CONNECTIONS = 65_535
OPTION_KINDS: dict[str, type] = {
    "max_connections": int,
    "socket_keepalive_options": dict,
    "credential_provider": CredentialProvider,
    "client_name": str,
}
# Values are always UTF-8, and commands are packed and connections opened by this app, alike in sync
# and async.
REFUSED_OPTIONS = {"encoding", "encoding_errors", "command_packer", "redis_connect_func"}
# A `take` or a `consume` that is sent twice may count twice.
REFUSED_OPTIONS |= {"retry", "retry_on_timeout", "retry_on_error"}

SCHEMES = ("redis", "rediss", "valkey", "valkeys", "unix", "memory")


class InvalidOption(InvalidConfig):
    """A client option, as distinct from the URL, that cannot work."""


def client_defaults() -> dict[str, Any]:
    """The client options that apply unless the settings say otherwise.

    A client waits for half a second where redis-py waits for several seconds. RESP2 saves each new
    connection a handshake.
    """
    return {
        "socket_connect_timeout": 0.5,
        "socket_timeout": 0.5,
        "protocol": 2,
        "max_connections": MAX_CONNECTIONS,
        "timeout": WAIT_SECONDS,
    }


def open_backend(url: str, client_options: dict[str, Any], *, cluster: bool = False) -> Backend:
    """The backend that ``url`` names (ST-42, ST-43), or the cluster that its server is in."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        listed = ", ".join(f"{name}://" for name in SCHEMES)
        raise InvalidConfig(f"the URL must start with one of {listed}")
    if cluster and scheme in ("unix", "memory"):
        raise InvalidConfig(
            f"{scheme}:// is no cluster; write redis://host:port of one of its servers"
        )
    if scheme == "memory":
        return MemoryBackend()
    try:
        redis_url = f"{scheme.replace('valkey', 'redis')}://{rest}"
        database = urlsplit(redis_url).path.strip("/")
        if scheme != "unix" and database and not database.isdecimal():
            raise ValueError(database)  # redis-py would quietly take 0
        in_url = parse_url(redis_url)  # type: ignore[no-untyped-call]
    except ValueError:
        # The message of the parser may quote a part of the password.
        raise InvalidConfig(
            "the URL cannot be read; write scheme://user:password@host:port/database, with"
            " special characters in the user name and the password percent-encoded"
        ) from None
    options = client_defaults() | client_options | in_url
    check_options(options)
    if cluster and options.get("db"):
        raise InvalidConfig(
            "a cluster has database 0 alone; write redis://host:port without another"
        )
    try:
        pool = BlockingConnectionPool(**options)  # type: ignore[no-untyped-call]
        # This constructs a connection without connecting, so that a wrong option is found now.
        pool.connection_class(**pool.connection_kwargs)
    except Exception as error:  # noqa: BLE001  # whatever the options made of it
        unknown = re.search(r"unexpected keyword argument ('\w+')", str(error))
        told = f"does not take the option {unknown[1]}" if unknown else "refuses these options"
        raise InvalidOption(f"the redis client {told}") from None
    if cluster:

        def open_node(host: str, port: int) -> RedisBackend:
            there = options | {"host": host, "port": port}
            return RedisBackend(Redis.from_pool(BlockingConnectionPool(**there)), owned=True)  # type: ignore[no-untyped-call]

        seed = options.get("host", "localhost"), options.get("port", 6379)
        return ClusterBackend([seed], open_node)
    return RedisBackend(Redis.from_pool(pool), owned=True)


def open_cluster_client(
    client: RedisCluster, async_client: "aioredis.RedisCluster | None" = None
) -> ClusterBackend:
    """A backend on the connections of the caller's cluster client."""

    def open_node(host: str, port: int) -> RedisBackend:
        node = client.get_node(host, port) or ClusterNode(host, port)  # type: ignore[no-untyped-call]
        lent = None if async_client is None else NodePool(async_client, (host, port))
        return RedisBackend(client.get_redis_connection(node), lent)

    seeds = [(node.host, node.port) for node in client.get_primaries()]  # type: ignore[no-untyped-call]
    remap = client.nodes_manager.remap_host_port
    return ClusterBackend(seeds, open_node, remap=remap)


def check_options(options: dict[str, Any]) -> None:
    """Raise ``InvalidConfig`` for options that would fail only in use."""
    for name in ("socket_timeout", "socket_connect_timeout", "timeout", "health_check_interval"):
        value = options.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        least = 0 if name == "health_check_interval" else 1e-3
        if value is not None and not (is_number and value >= least):
            raise InvalidOption(f"the client option {name!r} must be seconds above zero, or None")
    for name, kind in OPTION_KINDS.items():
        value = options.get(name)
        if value is not None and not isinstance(value, kind):
            raise InvalidOption(f"the client option {name!r} must be of type {kind.__name__}")
    if not 0 < (options["max_connections"] or 0) <= MOST_CONNECTIONS:
        raise InvalidOption(f"the client option 'max_connections' must be 1 to {MOST_CONNECTIONS}")
    for name in REFUSED_OPTIONS & options.keys():
        raise InvalidOption(f"the client option {name!r} is not supported")
    try:
        str(options.get("host", "")).encode("idna")
    except UnicodeError:
        raise InvalidConfig("the host in the URL is no host name") from None
