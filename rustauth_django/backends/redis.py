"""Redis and Valkey: each operation as a plan of commands.

Most plans are one command. The scripts are sent by hash, and by text only to a server
that does not know them yet.
"""

import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias, TypeVar

from redis import Redis
from redis import asyncio as aioredis
from redis.connection import SSLConnection
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.sentinel import SentinelConnectionPool

from ..algorithms import consume
from ..exceptions import BackendError, BackendUnavailable, RustAuthError
from ..operations import (
    CompareAndSet,
    Consume,
    Delete,
    DeleteIfValue,
    Describe,
    DropTokens,
    Fields,
    Forget,
    Get,
    GetMany,
    Known,
    Operation,
    Page,
    PutSession,
    ReadFields,
    Scan,
    ServerInfo,
    Set,
    Take,
    TimeToLive,
    Unlink,
)
from ..plans import Plan, adrive, drive
from ..rates import RateLimitDecision
from ..scripts import Script
from .base import Backend
from .loops import LoopClients

T = TypeVar("T")
Command: TypeAlias = tuple[Any, ...]
Steps: TypeAlias = Plan[Command, T]
PlanOf: TypeAlias = Callable[[Any], Steps[Any]]

COMPARE_AND_SET = Script.load(__package__, "compare_and_set.lua")
PUT_SESSION = Script.load(__package__, "sessions.lua", "put_session.lua")
DROP_TOKENS = Script.load(__package__, "sessions.lua", "drop_tokens.lua")
DELETE_IF_VALUE = Script.load(__package__, "delete_if_value.lua")

# What a server says while it cannot serve. redis-py has classes for most of it, but
# Redis 6.2 wraps what a script ran into in an error of its own.
UNAVAILABLE = (
    RedisConnectionError,
    RedisTimeoutError,
    OSError,
    ReadOnlyError,
    OutOfMemoryError,
    ClusterError,
)
UNAVAILABLE_WORDS = (
    "-READONLY",
    "-OOM",
    "-MASTERDOWN",
    "CLUSTERDOWN ",
    "BUSY ",
    "MISCONF",
    "Not enough good replicas",
    "max number of clients",
)

PLANS: dict[type[Operation[Any]], PlanOf] = {}


def plan_for(kind: type[Operation[Any]]) -> Callable[[PlanOf], PlanOf]:
    """Register how an operation of this kind becomes commands."""

    def register(plan: PlanOf) -> PlanOf:
        PLANS[kind] = plan
        return plan

    return register


class CommandBackend(Backend):
    """Operations as plans of commands, which each kind of backend sends in its own way."""

    plans: ClassVar[dict[type[Operation[Any]], PlanOf]] = PLANS

    @abstractmethod
    def perform(self, command: Command) -> Any:
        """Send a command and wait for the reply; raises whatever the client raises."""

    @abstractmethod
    async def aperform(self, command: Command) -> Any:
        """Send a command and await the reply; raises whatever the client raises."""

    def run(self, operation: Operation[T]) -> T:
        try:
            answer: T = drive(self.plans[type(operation)](operation), self.perform)
            return answer
        except RustAuthError:
            raise
        except Exception as error:  # noqa: BLE001  # clients raise all kinds of things
            raise translate(operation, error) from None

    async def arun(self, operation: Operation[T]) -> T:
        try:
            answer: T = await adrive(self.plans[type(operation)](operation), self.aperform)
            return answer
        except RustAuthError:
            raise
        except Exception as error:  # noqa: BLE001  # clients raise all kinds of things
            raise translate(operation, error) from None


class RedisBackend(CommandBackend):
    """One server: a redis-py client, and its twin for each event loop.

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

    def perform(self, command: Command) -> Any:
        return self._client.execute_command(*command)  # type: ignore[no-untyped-call]

    async def aperform(self, command: Command) -> Any:
        client = await self._loops.client()
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        if self._owned:
            self._client.close()

    async def aclose(self) -> None:
        await self._loops.aclose()
        self.close()


def call(script: Script, keys: Sequence[str], *arguments: int | str | bytes) -> Steps[Any]:
    """Run a script on its keys; a server that lost it is sent the text again."""
    rest = (len(keys), *map(wire, keys), *arguments)
    try:
        return (yield ("EVALSHA", script.sha, *rest))
    except NoScriptError:
        return (yield ("EVAL", script.text, *rest))


@plan_for(Known)
def _known(operation: Known[T]) -> Steps[T]:
    yield from ()
    return operation.answer


@plan_for(Get)
def _get(operation: Get) -> Steps[str | None]:
    return optional_text((yield ("GET", wire(operation.key))))


@plan_for(Set)
def _set(operation: Set) -> Steps[bool]:
    expiry = () if operation.ttl_ms is None else ("PX", operation.ttl_ms)
    condition = {"absent": ("NX",), "present": ("XX",), None: ()}[operation.only_if]
    value = operation.value.encode()
    return bool((yield ("SET", wire(operation.key), value, *expiry, *condition)))


@plan_for(Delete)
def _delete(operation: Delete) -> Steps[bool]:
    return bool((yield ("DEL", wire(operation.key))))


@plan_for(Take)
def _take(operation: Take) -> Steps[str | None]:
    return optional_text((yield ("GETDEL", wire(operation.key))))


@plan_for(CompareAndSet)
def _compare_and_set(operation: CompareAndSet) -> Steps[bool]:
    absent = operation.expected is None
    ttl = "" if operation.ttl_ms is None else operation.ttl_ms
    expected = (operation.expected or "").encode()
    arguments = (int(absent), expected, operation.value.encode(), ttl)
    return bool((yield from call(COMPARE_AND_SET, [operation.key], *arguments)))


@plan_for(DeleteIfValue)
def _delete_if_value(operation: DeleteIfValue) -> Steps[bool]:
    return bool((yield from call(DELETE_IF_VALUE, [operation.key], operation.expected.encode())))


@plan_for(TimeToLive)
def _time_to_live(operation: TimeToLive) -> Steps[int | None]:
    left: int = yield ("PTTL", wire(operation.key))
    return None if left < 0 else left


@plan_for(GetMany)
def _get_many(operation: GetMany) -> Steps[list[str | None]]:
    # What is no text in it is no text of ours.
    replies = yield ("MGET", *map(wire, operation.keys))
    return [None if reply is None else text(reply, "replace") for reply in replies]


@plan_for(PutSession)
def _put_session(operation: PutSession) -> Steps[int | None]:
    keys = [key for key in (operation.key, operation.index) if key is not None]
    condition = {"absent": "NX", "present": "XX"}[operation.only_if]
    arguments = (operation.token, operation.ttl_ms, operation.value.encode(), condition)
    count: int = yield from call(PUT_SESSION, keys, *arguments)
    return None if count < 0 else count


@plan_for(DropTokens)
def _drop_tokens(operation: DropTokens) -> Steps[int]:
    dropped: int = yield from call(DROP_TOKENS, [operation.index], *operation.tokens)
    return dropped


@plan_for(Scan)
def _scan(operation: Scan) -> Steps[Page]:
    pattern = wire(f"{escape_glob(operation.prefix)}*")
    cursor, keys = yield ("SCAN", operation.cursor, "MATCH", pattern, "COUNT", operation.count)
    return Page(int(cursor), [text(key, "surrogateescape") for key in keys])


@plan_for(Unlink)
def _unlink(operation: Unlink) -> Steps[int]:
    removed: int = yield ("UNLINK", *map(wire, operation.keys))
    return removed


@plan_for(Consume)
def _consume(operation: Consume) -> Steps[tuple[RateLimitDecision, ...]]:
    buckets = operation.buckets
    keys = list(dict.fromkeys([bucket.physical for bucket in buckets]))
    now = "" if operation.now_ms is None else operation.now_ms
    arguments: list[int | str] = [now, operation.cost, consume.TTL_MARGIN_MS]
    for physical, rule, _ in buckets:
        arguments.append(keys.index(physical) + 1)
        arguments += rule.arguments
    script = consume.script(frozenset([bucket.rule.algorithm for bucket in buckets]))
    try:
        reply = yield from call(script, keys, *arguments)
    except ResponseError as error:
        if removed := re.search(r"WRONGTYPE.* removed number (\d+)", str(error)):
            raise BackendError(
                operation.label,
                "the key did not hold a rate limit bucket; it was removed, and the next"
                " request starts one",
                keys[int(removed[1]) - 1],
            ) from None
        raise
    outcomes = consume.read_reply(reply, len(buckets))
    return tuple([consume.decide(outcome, b) for outcome, b in zip(outcomes, buckets, strict=True)])


@plan_for(Forget)
def _forget(operation: Forget) -> Steps[int]:
    removed: int = yield ("DEL", *map(wire, operation.keys))
    return removed


@plan_for(ReadFields)
def _read_fields(operation: ReadFields) -> Steps[Fields | None]:
    key = wire(operation.key)
    reply = yield ("HGETALL", key)
    ttl_ms: int = yield ("PTTL", key)
    fields = {text(name, "replace"): text(value, "replace") for name, value in reply.items()}
    return Fields(fields, ttl_ms) if fields else None


@plan_for(Describe)
def _describe(operation: Describe) -> Steps[ServerInfo]:
    info: dict[str, Any] = yield ("INFO",)
    name = str(info.get("server_name", "redis"))
    return ServerInfo(
        name=name,
        version=str(info.get(f"{name}_version", info.get("redis_version", "unknown"))),
        mode=str(info.get("redis_mode", info.get("server_mode", "unknown"))),
        eviction_policy=str(info.get("maxmemory_policy", "unknown")),
    )


def text(reply: Any, errors: str = "strict") -> str:
    """A reply as text, from clients that decode and from those that do not."""
    return reply.decode("utf-8", errors) if isinstance(reply, bytes) else str(reply)


def optional_text(reply: Any) -> str | None:
    """A reply as text, or None if there was nothing."""
    return None if reply is None else text(reply)


def wire(key: str) -> str | bytes:
    """A key as it is sent. A foreign key that is no UTF-8 survives a scan unharmed."""
    return key if key.isascii() else key.encode("utf-8", "surrogateescape")


def escape_glob(literal: str) -> str:
    r"""Escape what SCAN's MATCH would expand: ``* ? [ ] \``, nothing else (KEY-09)."""
    return "".join(f"\\{char}" if char in "*?[]\\" else char for char in literal)


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


def translate(operation: Operation[Any], error: Exception) -> BackendError:
    """The app's own error for one of redis-py's or the network's."""
    if isinstance(error, UnicodeDecodeError):
        return BackendError(operation.label, "the value is not UTF-8")
    if not isinstance(error, RedisError | OSError):
        # Its text may quote anything.
        kind = BackendUnavailable if isinstance(error, RedisClusterException) else BackendError
        return kind(operation.label, f"the redis client raised {type(error).__name__}")
    # Servers quote the arguments of commands that they do not know; the sentinel client
    # prints whole objects.
    reason = re.split(r", with args|\W+<redis\.", str(error))[0] or type(error).__name__
    refused = isinstance(error, AuthenticationError | AuthorizationError)
    away = isinstance(error, UNAVAILABLE) and not refused
    if away or any(word in reason for word in UNAVAILABLE_WORDS):
        return BackendUnavailable(operation.label, reason)
    return BackendError(operation.label, reason)
