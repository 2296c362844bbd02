"""How commands go out and replies come back on an event loop: one connection for all its tasks.

Commands of one turn of the loop leave in one write, and replies are matched to calls in order. A
call that is cancelled or out of time keeps its place in the order and drops its reply when it
comes, so no call gets another's answer.

A connection belongs to the loop on which it was opened. ``async_to_sync``, test runners and
reloaders make loops of their own, so each running loop has its own connection, which is closed as
the loop shuts down.
"""

import asyncio
import inspect
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from redis import Redis, RedisCluster
from redis import asyncio as aioredis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncSentinelConnectionPool
from redis.backoff import NoBackoff
from redis.connection import SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.sentinel import SentinelConnectionPool

from ..exceptions import InvalidConfig
from .commands import ASKING, Command, Several, pack
from .protocol import (
    INCOMPLETE,
    NOT_RESP,
    PUSHES,
    Overload,
    is_read_only,
    join,
    make_reader,
    opening_failure,
)
from .wire import (
    CLOSED,
    EXHAUSTED,
    MAX_CONNECTIONS,
    TIMED_OUT,
    UNLIMITED,
    WAIT_SECONDS,
    borrowing_arguments,
    on_fork,
    watch,
)

# The options that an async connection takes over from a sync one, besides those of TLS.
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
# Further calls wait for their turn.
MAX_IN_FLIGHT = 512
# How often a connection is opened for one call, if it is lost at once.
MAX_TRIES = 2
# Commands whose replies are long or many: they have a connection of their own, so that nothing
# waits behind a walk. It is closed when it was idle for so many seconds.
WALKS = frozenset({"SCAN", "UNLINK", "INFO"})
IDLE_SECONDS = 5.0
# If a timer is later than this, the loop was busy, and replies may have arrived unread.
LATE = 0.05
# A connection that was idle for longer is looked at before it is used.
DOUBTFUL_SECONDS = 0.05


class Call(NamedTuple):
    """A reply that is awaited: the future of its caller, or None if nobody waits for it, and its
    deadline. Of several commands, the replies are ``gathered`` until there are ``size``.
    """

    future: "asyncio.Future[Any] | None"
    ends_at: float | None
    size: int = 1
    gathered: list[Any] | None = None


class Waiting(NamedTuple):
    """A call that was not sent yet."""

    packed: bytes
    asking: bool
    size: int | None
    future: "asyncio.Future[Any]"
    ends_at: float


class Stream(asyncio.Protocol):
    """One connection. ``seconds`` is the deadline of a call from when it is sent, or None."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: Any,
        patience: float,
        on_lost: "Callable[[Stream], None]",
        on_idle: "Callable[[Stream], None] | None" = None,
    ) -> None:
        self.connection = connection
        self.is_usable = True
        self.idle_since = loop.time()
        self._loop = loop
        self._seconds: float | None = connection.socket_timeout
        self._patience = patience
        self._on_lost, self._on_idle = on_lost, on_idle
        self._reader = make_reader()
        self._in_flight: deque[Call] = deque()
        self._waiting: deque[Waiting] = deque()
        self._out: list[bytes] = []
        self._is_paused = False
        self._is_released = False
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport = connection._writer.transport
        self._former_protocol = self._transport.get_protocol()
        self._transport.set_protocol(self)
        self._is_readable = watch(self._transport.get_extra_info("socket"))

    def call(self, packed: bytes, asking: bool, size: int | None) -> "asyncio.Future[Any]":
        """Send, now or in turn; the future is the reply, or those to ``size`` commands."""
        future = self._loop.create_future()
        if not self.is_usable:
            # The connection was lost since the caller chose this stream.
            future.set_exception(RedisConnectionError(CLOSED))
        elif self._waiting or self._is_paused or len(self._in_flight) >= MAX_IN_FLIGHT:
            ends_at = self._loop.time() + self._patience
            self._waiting.append(Waiting(packed, asking, size, future, ends_at))
            self._set_timer(ends_at)
        else:
            self._send(packed, asking, size, future)
        return future

    def _send(
        self, packed: bytes, asking: bool, size: int | None, future: "asyncio.Future[Any]"
    ) -> None:
        ends_at = None if self._seconds is None else self._loop.time() + self._seconds
        is_alone = not self._in_flight
        if asking:
            packed = ASKING + packed
            self._in_flight.append(Call(None, ends_at))
        if size is None:
            self._in_flight.append(Call(future, ends_at))
        else:
            self._in_flight.extend([Call(future, ends_at, size, [])] * size)
        if ends_at is not None and self._timer is None:
            self._set_timer(ends_at)
        if is_alone:
            self._transport.write(packed)
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(packed)

    def _flush(self) -> None:
        packed = b"".join(self._out)
        self._out.clear()
        self._transport.write(packed)

    def data_received(self, data: bytes) -> None:
        reader, in_flight = self._reader, self._in_flight
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not INCOMPLETE:
                if isinstance(reply, PUSHES):
                    continue
                future, _, size, gathered = in_flight.popleft()
                if future is None or future.done():
                    continue
                if gathered is not None:
                    gathered.append(reply)
                    if len(gathered) < size:
                        continue
                    reply = join(gathered)
                if isinstance(reply, Exception):
                    if is_read_only(reply):
                        # The primary may be elsewhere by now.
                        self.retire()
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        except (IndexError, TypeError, InvalidResponse):
            # Not RESP, or a reply to no call: no later reply can be trusted.
            self._fail(InvalidResponse(NOT_RESP))
            self._transport.abort()
            return
        if self._waiting:
            self._go_on()
        if not in_flight:
            self.idle_since = self._loop.time()
            if not self.is_usable:
                self._transport.abort()
            elif self._on_idle is not None:
                self._on_idle(self)

    def _go_on(self) -> None:
        """Send the calls that have waited for their turn."""
        while self._waiting and len(self._in_flight) < MAX_IN_FLIGHT and not self._is_paused:
            packed, asking, size, future, _ = self._waiting.popleft()
            if not future.done():
                self._send(packed, asking, size, future)

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(RedisConnectionError(CLOSED))
        self._former_protocol.connection_lost(exc)
        self._on_lost(self)

    def _fail(self, error: Exception) -> None:
        self.is_usable = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        futures = [call.future for call in self._in_flight]
        for future in [*futures, *(call.future for call in self._waiting)]:
            if future is not None and not future.done():
                future.set_exception(type(error)(*error.args))
        self._in_flight.clear()
        self._waiting.clear()

    def _set_timer(self, ends_at: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= ends_at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(ends_at, self._look_at_the_clock, ends_at)

    def _look_at_the_clock(self, when: float, is_second_look: bool = False) -> None:
        """Fail the calls that are out of time. One timer serves all calls, since their deadlines
        are in order.

        A reply that is overdue ends the connection, whether or not somebody still waits for it.
        """
        self._timer = None
        now = self._loop.time()
        if now - when > LATE and not is_second_look:
            self._timer = self._loop.call_later(LATE / 2, self._look_at_the_clock, when, True)
            return
        is_hung = False
        for future, ends_at, *_ in self._in_flight:
            if ends_at is None:
                continue
            if ends_at > now:
                self._set_timer(ends_at)
                break
            is_hung = True
            if future is not None and not future.done():
                future.set_exception(RedisTimeoutError(TIMED_OUT))
        while self._waiting and self._waiting[0].ends_at <= now:
            waited = self._waiting.popleft().future
            if not waited.done():
                waited.set_exception(Overload())
        if self._waiting:
            self._set_timer(self._waiting[0].ends_at)
        if is_hung:
            self.retire()

    def retire(self) -> None:
        """Take no more calls. Calls in flight end by their own deadlines; then the connection is
        closed.
        """
        self.is_usable = False
        for waiting in self._waiting:
            if not waiting.future.done():
                waiting.future.set_exception(RedisTimeoutError(TIMED_OUT))
        self._waiting.clear()
        if all(call.future is None or call.future.done() for call in self._in_flight):
            self._transport.abort()

    @property
    def is_busy(self) -> bool:
        return bool(self._in_flight or self._waiting)

    @property
    def is_closing(self) -> bool:
        return self._transport.is_closing()

    @property
    def is_doubtful(self) -> bool:
        """Was it idle for so long that the server may have closed it, and is there something to
        read? While the loop did not run, nobody has noticed.
        """
        if self._in_flight or self._loop.time() - self.idle_since < DOUBTFUL_SECONDS:
            return False
        return bool(self._is_readable())

    def close(self) -> None:
        """Close at once; calls in flight fail."""
        self._fail(RedisConnectionError(CLOSED))
        self._transport.abort()

    def release(self) -> bool:
        """Restore the transport. Could the connection go back to its pool? It does so once."""
        if self._is_released or self.is_busy or self._out or self._transport.is_closing():
            return False
        self._is_released = True
        self._fail(RedisConnectionError(CLOSED))
        self._transport.set_protocol(self._former_protocol)
        return True


class LoopWire:
    """The connections of one event loop: one for its tasks, and one for walks while they last.

    Own connections are made with the options of ``pool``; a caller's are borrowed from its pool.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Any, *, owned: bool) -> None:
        self._loop = loop
        self._pool = pool
        self._owned = owned
        self._patience: float = getattr(pool, "timeout", None) or WAIT_SECONDS
        # From a pool of fewer than four connections none may be held while idle.
        self._holds = owned or pool.max_connections >= 4
        self._streams: dict[bool, Stream] = {}
        # Those that take no more calls, until they are closed.
        self._retired: set[Stream] = set()
        self._opening: dict[bool, asyncio.Task[Stream]] = {}
        # How many callers are about to use each connection.
        self._coming = {False: 0, True: 0}
        self._leaving: set[asyncio.Task[None]] = set()

    async def call(self, command: Command, *, asking: bool = False) -> Any:
        """The reply to a command; raises redis-py's exceptions, those of sockets, ``Overload``."""
        packed = pack(command)
        is_walk = command[0] in WALKS
        stream = self._streams.get(is_walk)
        if stream is not None and stream.is_doubtful:
            # The loop reads what is there.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if stream.is_closing:
                stream = None
        self._coming[is_walk] += 1
        try:
            for _ in range(MAX_TRIES):
                if stream is None or not stream.is_usable:
                    stream = await self._open(is_walk)
            assert stream is not None
            size = len(command.commands) if isinstance(command, Several) else None
            reply = stream.call(packed, asking, size)
        finally:
            self._coming[is_walk] -= 1
        return await reply

    async def _open(self, is_walk: bool) -> Stream:
        """One new connection for all callers that need one now; the cancellation of one caller does
        not stop it.
        """
        opening = self._opening.get(is_walk)
        if opening is None:
            opening = self._loop.create_task(self._connect(is_walk))
            # A task that is started eagerly may have ended here.
            if not opening.done():
                self._opening[is_walk] = opening
            opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if opening.cancelled() and not (task and task.cancelling()):
                # The connections were closed meanwhile; nobody cancels the caller.
                raise RedisConnectionError(CLOSED) from None
            if not self._holds:
                opening.add_done_callback(self._let_go_unused)
            raise

    def _let_go_unused(self, opening: "asyncio.Task[Stream]") -> None:
        """Give back a connection whose callers are gone; others that want it have time to come."""
        if not opening.cancelled() and opening.exception() is None:
            self._loop.call_later(LATE, self._let_go, opening.result())

    async def _connect(self, is_walk: bool) -> Stream:
        try:
            connection = await (self._make() if self._owned else self._borrow())
            on_idle = None if self._holds else self._let_go
            try:
                stream = Stream(self._loop, connection, self._patience, self._lost, on_idle)
            except BaseException:
                self._later(self._give_back_broken(connection))
                raise
            former = self._streams.get(is_walk)
            if former is not None:
                self._retired.add(former)
            self._streams[is_walk] = stream
            if is_walk:
                self._close_when_idle(stream)
            return stream
        finally:
            self._opening.pop(is_walk, None)

    async def _make(self) -> Any:
        connection: Any = self._pool.connection_class(**self._pool.connection_kwargs)
        connection.retry = AsyncRetry(NoBackoff(), 0)
        seconds, connection.socket_connect_timeout = connection.socket_connect_timeout, None
        try:
            await self._in_time(connection.connect(), seconds)
        except Exception as error:  # noqa: BLE001  # a credential provider's may be anything
            abandon(connection)
            raise opening_failure(self._pool, error) from None
        except BaseException:
            abandon(connection)
            raise
        finally:
            if isinstance(self._pool, AsyncSentinelConnectionPool):
                # Sentinels are asked for each new connection, which is seldom.
                for sentinel in self._pool.sentinel_manager.sentinels:
                    await sentinel.aclose()
        return connection

    async def _in_time(self, connecting: Any, seconds: float | None) -> None:
        """Connect within so many seconds; a long turn of a busy loop counts as a short one."""
        task, left = self._loop.create_task(connecting), seconds
        try:
            while not task.done() and (left is None or left > 0):
                began = self._loop.time()
                await asyncio.wait([task], timeout=None if left is None else min(left, LATE))
                if left is not None:
                    left -= min(self._loop.time() - began, LATE)
            if not task.done():
                raise RedisTimeoutError("Timeout connecting to server")
            task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    async def _borrow(self) -> Any:
        give_up_at = self._loop.time() + self._patience
        while True:
            try:
                connection = await self._pool.get_connection(*borrowing_arguments(self._pool))
                return await self._freshened(connection)
            except (RedisConnectionError, Overload) as error:
                if isinstance(error, RedisConnectionError) and str(error) not in EXHAUSTED:
                    raise
                # A pool with a time-out of its own has waited.
                if hasattr(self._pool, "timeout") or self._loop.time() >= give_up_at:
                    raise Overload from None
            except Exception as error:  # noqa: BLE001  # a credential provider's may be anything
                raise opening_failure(self._pool, error) from None
            await asyncio.sleep(LATE)

    async def _freshened(self, connection: Any) -> Any:
        """A lent connection, opened anew if the server has closed it: redis-py may not look."""
        try:
            if connection._reader.at_eof() or connection._writer.transport.is_closing():
                await connection.disconnect(nowait=True)
                await connection.connect()
        except BaseException:
            self._later(self._give_back_broken(connection))
            raise
        return connection

    def _let_go(self, stream: Stream) -> None:
        if self._coming[self._streams.get(True) is stream]:
            return  # it is given back after their calls
        if stream.release():
            self._forget(stream)
            self._later(self._pool.release(stream.connection))

    def _close_when_idle(self, stream: Stream) -> None:
        left = stream.idle_since + IDLE_SECONDS - self._loop.time()
        if not stream.is_usable:
            return
        if left > 0 or stream.is_busy:
            self._loop.call_later(max(left, 1.0), self._close_when_idle, stream)
        elif self._owned:
            stream.close()
        else:
            self._let_go(stream)

    def _lost(self, stream: Stream) -> None:
        self._forget(stream)
        if self._owned:
            abandon(stream.connection)
        elif not self._loop.is_closed():
            self._later(self._give_back_broken(stream.connection))

    def _forget(self, stream: Stream) -> None:
        self._retired.discard(stream)
        for is_walk, one in list(self._streams.items()):
            if one is stream:
                del self._streams[is_walk]

    async def _give_back_broken(self, connection: Any) -> None:
        await connection.disconnect(nowait=True)
        await self._pool.release(connection)

    def _later(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def abandon(self) -> None:
        """Drop the connections of a loop that was closed without being shut down: nothing can run
        in it any more.
        """
        for stream in [*self._streams.values(), *self._retired]:
            with suppress(RuntimeError):
                stream.close()

    async def aclose(self) -> None:
        """Close the connections, or give them back."""
        for opening in list(self._opening.values()):
            opening.cancel()
            await asyncio.wait([opening])
        for stream in [*self._streams.values(), *self._retired]:
            if self._owned or not stream.release():
                stream.close()
            else:
                self._forget(stream)
                self._later(self._pool.release(stream.connection))
        # A transport closes in the loop's next turn, one with TLS in one more.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        while self._leaving:
            await asyncio.wait(list(self._leaving))


def abandon(connection: Any) -> None:
    """Close a connection of redis-py's at once, so that it raises no ResourceWarning later."""
    if connection._writer is not None:
        connection._writer.transport.abort()
    connection._reader = connection._writer = None


class LoopWires:
    """The async side of a sync client: on each running loop a ``LoopWire``.

    The connections are those of ``given``, the pool of the caller's own client, or have the options
    of the sync client's.
    """

    def __init__(self, client: "Redis", given: Any = None) -> None:
        self._sync_client = client
        self._given = given
        self._begin()
        on_fork(self)

    def _begin(self) -> None:
        self._wires: WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[LoopWire, AsyncGenerator[None]]
        ] = WeakKeyDictionary()

    async def call(self, command: Command, *, asking: bool = False) -> Any:
        """The reply to a command, on the running loop's connection."""
        loop = asyncio.get_running_loop()
        found = self._wires.get(loop)
        wire = found[0] if found else await self._open(loop)
        return await wire.call(command, asking=asking)

    async def aclose(self) -> None:
        """Close what was opened on the running loop."""
        found = self._wires.get(asyncio.get_running_loop())
        if found:
            await found[1].aclose()

    async def _open(self, loop: asyncio.AbstractEventLoop) -> LoopWire:
        if self._given is not None:
            wire = LoopWire(loop, self._given, owned=False)
        else:
            wire = LoopWire(loop, twin(self._sync_client).connection_pool, owned=True)
        keeper = self._keep(loop, wire)
        # A connection refers to its loop. A loop that was never shut down would stay in this
        # dictionary for ever.
        for other in [reference() for reference in self._wires.keyrefs()]:
            if other is not None and other.is_closed():
                forgotten = self._wires.pop(other, None)
                if forgotten is not None:
                    forgotten[0].abandon()
        self._wires[loop] = wire, keeper
        await anext(keeper)
        return wire

    async def _keep(self, loop: asyncio.AbstractEventLoop, wire: LoopWire) -> AsyncGenerator[None]:
        # Loops close their unfinished async generators as they shut down
        # (loop.shutdown_asyncgens): the one moment when a connection can still be closed.
        try:
            yield
        finally:
            self._wires.pop(loop, None)
            await wire.aclose()


def twin(client: "Redis") -> "aioredis.Redis":
    """An async client with the address, the credentials and the limits of a sync one.

    Raises ``InvalidConfig`` for an option that an async client does not have.
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
    # With or without TLS, whatever the primary has.
    to_sentinels = bool(manager.sentinel_kwargs.get("ssl", False))
    kind = aioredis.SSLConnection if to_sentinels else aioredis.Connection
    sentinel = AsyncSentinel(  # type: ignore[no-untyped-call]
        sentinels,
        sentinel_kwargs={"ssl": to_sentinels, **_options(manager.sentinel_kwargs, kind)},
    )
    master: aioredis.Redis = sentinel.master_for(
        pool.service_name, ssl=secure, **_options(pool.connection_kwargs, connection_class)
    )
    return master


def _options(options: dict[str, Any], connection_class: Any) -> dict[str, Any]:
    """The options of a sync connection that apply to an async one."""
    on_connect = options.get("redis_connect_func")
    # A cluster client has its own, for replicas, which are never asked here.
    if on_connect and not isinstance(getattr(on_connect, "__self__", None), RedisCluster):
        raise InvalidConfig(
            "the client option 'redis_connect_func' has no async form; pass an async_client of"
            " your own"
        )
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
    return shared
