"""Sending commands and reading their replies, blocking.

redis-py opens connections: addresses, TLS, credentials and sentinels are its part. This module uses
them: it sends a packed command and reads the reply, with one deadline for both. Idle connections
lie on a stack, the last one used on top.

Nothing is sent twice. A connection is closed if its call ended without a whole reply, for whatever
reason. Its place is free again in any case.
"""

import os
import select
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from inspect import Parameter, signature
from ssl import SSLSocket, SSLWantReadError
from threading import Lock
from typing import Any, NoReturn
from weakref import WeakSet, ref

from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from .commands import ASKING, Command, Several, pack
from .protocol import (
    INCOMPLETE,
    NOT_RESP,
    PUSHES,
    Overload,
    is_raised_in,
    is_read_only,
    join,
    make_reader,
    opening_failure,
)

# If more threads, or tasks of one loop, call at once, the others wait for their turn, for so many
# seconds. This is for clients made from a URL, and for a caller's client whose pool has no limit.
MAX_CONNECTIONS = 100
WAIT_SECONDS = 1.0
UNLIMITED = 2**31
READ_SIZE = 65_536
CLOSED = "Connection closed by server."
TIMED_OUT = "Timeout reading from socket"
# A send that took longer than this is taken off the time for the reply.
LONG_SEND = 0.01
# How long the last look at the socket may take.
LAST_LOOK = 0.05
# A thread that waits for a connection looks for a free place after so many seconds, even if nobody
# wakes it.
LOOK_AGAIN = 0.1


class Place:
    """The right to have one connection, for as long as something refers to this object."""

    __slots__ = ("__weakref__",)


class Turn:
    """A thread that waits; another may hand it a ``line``."""

    __slots__ = ("line", "lock")

    def __init__(self) -> None:
        self.line: Line | None = None
        self.lock = Lock()
        self.lock.acquire()


class Places:
    """The places for connections, and the threads that wait for one.

    A place is free when nothing refers to it. So no place is lost, wherever an exception is raised:
    no code has to give it back, and no lock stays locked when a signal handler raises. Each step on
    a deque is atomic.
    """

    def __init__(self, size: int) -> None:
        self.waiting: deque[Turn] = deque()
        self._size = size
        self._taken: deque[ref[Place]] = deque()

    def take(self) -> Place | None:
        """A place, if fewer than ``size`` of the earlier ones are still taken; else None."""
        place, before = Place(), 0
        self._taken.append(ref(place))
        for taken in list(self._taken):
            other = taken()
            if other is place:
                break
            if other is not None:
                before += 1
                continue
            with suppress(ValueError):
                self._taken.remove(taken)
        return place if before < self._size else None

    def hand_over(self, line: "Line | None") -> bool:
        """Wake the first thread that waits, with this line if there is one. Was there a thread?"""
        try:
            turn = self.waiting.popleft()
        except IndexError:
            return False
        turn.line = line
        turn.lock.release()
        return True


class Line:
    """One of redis-py's connections, its place, and this app's reader on its socket."""

    def __init__(self, connection: Any, place: Place | None) -> None:
        self._connection = connection
        self._place = place
        self._seconds: float | None = connection.socket_timeout
        self._socket = connection._sock
        self._reader = make_reader()
        self._is_readable = watch(self._socket)

    def is_sound(self) -> bool:
        """May a command be sent? Not if the server has closed the connection, or has sent an
        unexpected reply.
        """
        # Its owner may have closed a borrowed one, and the number of its file may be another's now.
        if self._reader.has_data() or self._connection._sock is not self._socket:
            return False
        if not self._is_readable():
            return True
        if not isinstance(self._socket, SSLSocket):
            return False
        # The bytes may belong to TLS, such as a ticket for the next connection.
        try:
            self._socket.settimeout(0)
            self._socket.recv(1)
        except SSLWantReadError:
            return True
        except OSError:
            return False
        finally:
            self._socket.settimeout(self._seconds)
        return False

    def call(
        self,
        packed: bytes,
        replies: int,
        gathered: list[Any] | None = None,
        started: float | None = None,
    ) -> Any:
        """Send, and return the last of ``replies`` replies; one deadline is for all of it. All of
        them are added to ``gathered``. If it was ``started`` before, it is sent already.
        """
        if started is None:
            started = time.monotonic()
            self._socket.sendall(packed)
        is_late = time.monotonic() - started > LONG_SEND
        ends_at = None if self._seconds is None else started + self._seconds
        if is_late:
            ends_at = self._hurry(ends_at, started)
        read, reader = self._socket.recv, self._reader
        while True:
            try:
                data = read(READ_SIZE)
            except TimeoutError as error:
                if type(error) is not TimeoutError:
                    raise  # a signal handler's
                raise RedisTimeoutError(TIMED_OUT) from None
            if not data:
                raise RedisConnectionError(CLOSED)
            reader.feed(data)
            while (reply := reader.gets()) is not INCOMPLETE:
                if isinstance(reply, PUSHES):
                    continue
                replies -= 1
                if gathered is not None:
                    gathered.append(reply)
                if not replies:
                    if is_late:
                        self._socket.settimeout(self._seconds)
                    return reply
            is_late = True
            ends_at = self._hurry(ends_at, started)

    def _hurry(self, ends_at: float | None, started: float) -> float | None:
        """Give the next step the time that is left; when the call ends at the latest.

        While other threads were busy, the deadline may have passed with the reply in the socket. So
        there is one last look.
        """
        if ends_at is None or self._seconds is None:
            return None
        now = time.monotonic()
        if now + LAST_LOOK > ends_at:
            if ends_at > started + self._seconds:
                if now >= ends_at:
                    raise RedisTimeoutError(TIMED_OUT)
            else:
                ends_at = max(now, ends_at) + LAST_LOOK
        self._socket.settimeout(ends_at - now)
        return ends_at

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()
        self._place = None

    def part(self) -> None:
        """Give the connection up; nothing on it is unread."""
        self.close()


class BorrowedLine(Line):
    """A line whose connection is borrowed from somebody else's pool, and goes back to it."""

    _lender: Any = None

    def __init__(self, connection: Any, lender: Any) -> None:
        self._lender = lender
        super().__init__(connection, None)

    def close(self) -> None:
        if self._lender is not None:
            self._connection.disconnect()
            self.part()

    def part(self) -> None:
        lender, self._lender = self._lender, None
        if lender is not None:
            lender.release(self._connection)

    def __del__(self) -> None:
        self.close()


class Wire:
    """Connections like those of ``pool``, for threads.

    With a pool of this app's own, the connections are made here, at most ``pool.max_connections``.
    From somebody else's pool they are borrowed, and at most a quarter of that pool is held while
    idle.
    """

    def __init__(self, pool: Any, *, owned: bool) -> None:
        self._pool = pool
        self._owned = owned
        most = pool.max_connections if pool.max_connections < UNLIMITED else MAX_CONNECTIONS
        self._most = most
        self._most_idle = most if owned else most // 4
        self._patience: float = getattr(pool, "timeout", None) or WAIT_SECONDS
        self._borrowing = borrowing_arguments(pool)
        self._pool_waits = not owned and hasattr(pool, "timeout")
        self._begin()
        on_fork(self)

    def _begin(self) -> None:
        self._idle: deque[Line] = deque()
        # One for each thread that waits inside of a pool which is not ours.
        self._inside: deque[None] = deque()
        self._places = Places(self._most if self._owned else 0)

    def call(self, command: Command, *, asking: bool = False) -> Any:
        """The reply to a command; raises redis-py's exceptions, those of sockets, ``Overload``."""
        packed = pack(command)
        if asking:
            packed = ASKING + packed
        idle = self._idle
        line = self._take()
        try:
            if isinstance(command, Several):
                replies: list[Any] = []
                line.call(packed, len(command.commands) + asking, replies)
                reply = join(replies[1:] if asking else replies)
            else:
                reply = line.call(packed, 2 if asking else 1)
        except BaseException as error:
            self._give_up(line, error)
            raise
        if isinstance(reply, Exception):
            self._refuse(line, idle, reply)
        self._put(line, idle)
        return reply

    def start(self, command: Several, *, waits: bool) -> "Started | None":
        """Send commands whose replies are read later; raises what ``call`` does.

        If no connection is idle, and it does not wait for one, the answer is None.
        """
        idle = self._idle
        line = self._take() if waits else self._pop_idle()
        if line is None:
            return None
        try:
            return Started(self, line, idle, command)
        except BaseException as error:
            self._give_up(line, error)
            raise

    def _give_up(self, line: Line, error: BaseException) -> None:
        """After an error of a call its connection cannot be trusted, and perhaps no other."""
        line.close()
        if isinstance(error, RedisConnectionError | RedisTimeoutError | OSError):
            self.close()
        elif isinstance(error, TypeError) and is_raised_in("rustauth_django", error):
            # hiredis has met a map whose names are lists.
            raise InvalidResponse(NOT_RESP) from None

    def _refuse(self, line: Line, idle: deque[Line], reply: Exception) -> NoReturn:
        """Raise an error that the server has answered with."""
        if is_read_only(reply):
            # The primary may be elsewhere by now.
            line.close()
            self.close()
        else:
            self._put(line, idle)
        raise reply

    def close(self) -> None:
        """Close the idle connections, or give them back. Busy ones follow after their calls."""
        idle, self._idle = self._idle, deque()
        while idle:
            idle.pop().part()

    def _take(self) -> Line:
        """A sound connection: an idle one, a new one, or one that another thread is done with."""
        # Those that wait already come first.
        if not self._places.waiting and (line := self._find()) is not None:
            return line
        if not self._pool_waits:
            return self._wait(time.monotonic() + self._patience)
        # The pool has waited, and meanwhile another thread may have finished.
        line = self._pop_idle()
        if line is None:
            raise Overload
        return line

    def _find(self) -> Line | None:
        return self._pop_idle() or (self._open() if self._owned else self._borrow())

    def _pop_idle(self) -> Line | None:
        while True:
            try:
                line = self._idle.pop()
            except IndexError:
                return None
            if line.is_sound():
                return line
            line.close()

    def _wait(self, give_up_at: float) -> Line:
        """Wait in turn until another thread hands a connection over. The first in the line also
        looks by itself from time to time, since a lost connection wakes nobody.
        """
        turn, waiting = Turn(), self._places.waiting
        waiting.append(turn)
        try:
            while (left := give_up_at - time.monotonic()) > 0:
                # A thread that finished before this one waited could not wake it.
                may_look = self._idle and self._is_first(turn)
                if not may_look and turn.lock.acquire(timeout=min(left, LOOK_AGAIN)):
                    handed, turn.line = turn.line, None
                    if handed is not None:
                        if handed.is_sound():
                            return handed
                        handed.close()
                    turn = Turn()
                    waiting.appendleft(turn)
                if self._is_first(turn) and (line := self._find()) is not None:
                    return line
            raise Overload
        finally:
            with suppress(ValueError):
                waiting.remove(turn)
            handed, turn.line = turn.line, None
            if handed is not None:
                self._put(handed, self._idle)

    def _is_first(self, turn: Turn) -> bool:
        try:
            return self._places.waiting[0] is turn
        except IndexError:
            return False

    def _put(self, line: Line, idle: deque[Line]) -> None:
        if idle is not self._idle:
            # Closed meanwhile.
            line.part()
            self._places.hand_over(None)
        elif not (self._places.waiting and self._places.hand_over(line)):
            if len(idle) >= self._most_idle or self._inside:
                line.part()
            else:
                idle.append(line)

    def _open(self) -> Line | None:
        place = self._places.take()
        return None if place is None else Line(open_connection(self._pool), place)

    def _borrow(self) -> Line | None:
        if self._pool_waits:
            self._inside.append(None)
        try:
            connection = self._pool.get_connection(*self._borrowing)
        except RedisConnectionError as error:
            if str(error) in EXHAUSTED:
                return None
            raise
        except Exception as error:  # noqa: BLE001  # a credential provider's may be anything
            self._distrust(error)
            raise opening_failure(self._pool, error) from None
        except BaseException as error:
            self._distrust(error)
            raise
        finally:
            if self._pool_waits:
                self._inside.pop()
        return BorrowedLine(connection, self._pool)

    def _distrust(self, error: BaseException) -> None:
        """Close the pool's idle connections if a signal handler has raised: redis-py may have put a
        connection among them whose handshake was not read to its end.
        """
        if isinstance(error, RedisError | OSError):
            return
        if "inuse_connections" in signature(self._pool.disconnect).parameters:
            self._pool.disconnect(inuse_connections=False)


class Started:
    """Commands that are sent, and whose replies are still to come."""

    def __init__(self, wire: Wire, line: Line, idle: deque[Line], command: Several) -> None:
        self._wire, self._line, self._idle = wire, line, idle
        self._size = len(command.commands)
        self.socket = line._socket
        self.seconds = line._seconds
        self._started = time.monotonic()
        self.socket.sendall(command.packed)

    def finish(self) -> Any:
        """The replies; raises what ``Wire.call`` does."""
        replies: list[Any] = []
        try:
            self._line.call(b"", self._size, replies, self._started)
            reply = join(replies)
        except BaseException as error:
            self._wire._give_up(self._line, error)
            raise
        if isinstance(reply, Exception):
            self._wire._refuse(self._line, self._idle, reply)
        self._wire._put(self._line, self._idle)
        return reply

    def abandon(self) -> None:
        """Nobody reads the replies."""
        self._line.close()


# The messages of redis-py's pools when all connections are in use.
EXHAUSTED = ("Too many connections", "No connection available.")

_forked: WeakSet[Any] = WeakSet()


def on_fork(wire: Any) -> None:
    """Let ``wire`` begin anew in a forked child, since its connections belong to the parent."""
    _forked.add(wire)


def _begin_anew() -> None:
    for wire in list(_forked):
        wire._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def watch(sock: Any) -> Callable[[], Any]:
    """A function that tells whether there are bytes to read, without waiting."""
    if not hasattr(select, "poll"):
        return lambda: select.select([sock], [], [], 0)[0]
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return partial(poll.poll, 0)


def borrowing_arguments(pool: Any) -> tuple[str, ...]:
    """The arguments of ``pool.get_connection``: before redis-py 5.3, a command's name."""
    parameters = iter(signature(pool.get_connection).parameters.values())
    return ("GET",) if next(parameters).default is Parameter.empty else ()


class Deadline:
    """Mixed into a connection class of redis-py: opening has one deadline for all of its steps."""

    ends_at: float | None = None
    # Newer versions of redis-py keep the two in these attributes; older ones set the properties
    # below.
    _socket_timeout: float | None = None
    _socket_connect_timeout: float | None = None

    def left(self, seconds: float | None) -> float | None:
        if self.ends_at is None:
            return seconds
        return max(0.001, self.ends_at - time.monotonic())

    @property
    def socket_timeout(self) -> float | None:
        return self.left(self._socket_timeout)

    @socket_timeout.setter
    def socket_timeout(self, seconds: float | None) -> None:
        self._socket_timeout = seconds

    @property
    def socket_connect_timeout(self) -> float | None:
        return self.left(self._socket_connect_timeout)

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, seconds: float | None) -> None:
        self._socket_connect_timeout = seconds

    def _connect(self) -> Any:
        return HurriedSocket(super()._connect(), self)  # type: ignore[misc]  # redis-py's


class HurriedSocket:
    """A socket whose every step may take only the time that is left."""

    def __init__(self, real: Any, deadline: Deadline) -> None:
        self.real = real
        self._deadline: Deadline | None = deadline

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def _hurry(self) -> Any:
        if self._deadline is not None and self._deadline.ends_at is not None:
            self.real.settimeout(self._deadline.left(None))
        return self.real

    def slow_down(self) -> Any:
        """The socket itself. The parser keeps this object, which must not keep the connection."""
        self._deadline = None
        return self.real

    def recv(self, *arguments: Any) -> Any:
        return self._hurry().recv(*arguments)

    def recv_into(self, *arguments: Any) -> Any:
        return self._hurry().recv_into(*arguments)

    def sendall(self, *arguments: Any) -> Any:
        return self._hurry().sendall(*arguments)


@lru_cache
def hurried(kind: type) -> type:
    """A subclass of that connection class that opens within one deadline."""
    return type(kind.__name__, (Deadline, kind), {})


def open_connection(pool: Any) -> Any:
    """A new connection with the options of ``pool``, opened within ``socket_connect_timeout``."""
    connection: Any = hurried(pool.connection_class)(**pool.connection_kwargs)
    connection.retry = Retry(NoBackoff(), 0)
    seconds = connection.socket_connect_timeout
    connection.ends_at = None if seconds is None else time.monotonic() + seconds
    try:
        connection.connect()
    except Exception as error:  # noqa: BLE001  # a credential provider's may be anything
        connection.disconnect()
        raise opening_failure(pool, error) from None
    except BaseException:
        connection.disconnect()
        raise
    connection.ends_at = None
    connection._sock = connection._sock.slow_down()
    connection._sock.settimeout(connection.socket_timeout)
    return connection
