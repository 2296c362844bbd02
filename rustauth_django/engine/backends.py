"""The backends that carry out operations: this process's memory, or a server."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar

from redis.exceptions import (
    AuthorizationError,
    ClusterError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..exceptions import BackendError, BackendOverloaded, BackendUnavailable
from .commands import Command, with_text
from .memory import Memory, epoch_ms
from .operations import InvalidReply, Operation
from .protocol import Overload

T = TypeVar("T")

# Error codes of a server that cannot serve. redis-py has classes for most of them, but Redis 6.2
# wraps an error within a script in an error of another kind.
UNAVAILABLE = (
    RedisConnectionError,
    RedisTimeoutError,
    OSError,
    ReadOnlyError,
    OutOfMemoryError,
    ClusterError,
)
# Other exceptions are not about the server: a signal handler may have raised them.
TRANSLATED = (
    *(RedisError, RedisClusterException, OSError),
    *(UnicodeDecodeError, InvalidReply, Overload),
)
# Where the classes of the network's errors are.
OF_THE_NETWORK = frozenset({"builtins", "socket", "ssl"})
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


class Backend(ABC):
    """Carries out operations, each in one atomic step.

    ``run`` and ``arun`` translate every error of the server and of the network into a
    ``BackendError`` or a ``BackendUnavailable``.
    """

    #: Where the data is, safe to print: it contains no user name and no password.
    location: str

    @abstractmethod
    def run(self, operation: Operation[T]) -> T:
        """The operation's answer; blocks."""

    @abstractmethod
    async def arun(self, operation: Operation[T]) -> T:
        """The operation's answer, without blocking the running loop."""

    @abstractmethod
    def close(self) -> None:
        """Give back what this backend opened for sync use."""

    @abstractmethod
    async def aclose(self) -> None:
        """Give back what this backend opened, for sync use and for the running loop."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.location}>"


class MemoryBackend(Backend):
    """This process's memory: for development, for tests, and as a stand-in.

    The same answers as a server, under one lock. The data is gone with the process, and no other
    process sees it. ``clock`` returns epoch milliseconds; at most ``max_buckets`` rate limit
    buckets are kept.
    """

    location = "memory://"

    def __init__(self, *, clock: Callable[[], int] = epoch_ms, max_buckets: int = 100_000) -> None:
        self._lock = Lock()
        self._memory = Memory(clock, max_buckets)

    def run(self, operation: Operation[T]) -> T:
        with self._lock:
            return operation.in_memory(self._memory)

    async def arun(self, operation: Operation[T]) -> T:
        return self.run(operation)

    def close(self) -> None:
        """Nothing to give back: the data stays as long as the backend does."""

    async def aclose(self) -> None:
        """Nothing to give back: the data stays as long as the backend does."""


class ServerBackend(Backend):
    """A server or a cluster: an operation is a command, which each kind sends in its own way."""

    @abstractmethod
    def perform(self, command: Command) -> Any:
        """Send a command and wait for the reply; raises whatever the client raises."""

    @abstractmethod
    async def aperform(self, command: Command) -> Any:
        """Send a command and await the reply; raises whatever the client raises."""

    def run(self, operation: Operation[T]) -> T:
        command = operation.command()
        try:
            if command is None:
                return operation.answer(None)
            try:
                reply = self.perform(command)
            except NoScriptError:
                reply = self.perform(with_text(command))
            return operation.answer(reply)
        except TRANSLATED as error:
            if is_handlers(error):
                raise
            raise translate(operation, error) from None

    async def arun(self, operation: Operation[T]) -> T:
        command = operation.command()
        try:
            if command is None:
                return operation.answer(None)
            try:
                reply = await self.aperform(command)
            except NoScriptError:
                reply = await self.aperform(with_text(command))
            return operation.answer(reply)
        except TRANSLATED as error:
            if is_handlers(error):
                raise
            raise translate(operation, error) from None


def is_handlers(error: Exception) -> bool:
    """Is this an exception of a class that a signal handler has for itself, such as a time-out of a
    task?
    """
    return isinstance(error, OSError) and type(error).__module__ not in OF_THE_NETWORK


def translate(operation: Operation[Any], error: Exception) -> BackendError:
    """The app's own error for one of redis-py's or the network's."""
    if isinstance(error, UnicodeDecodeError):
        return BackendError(operation.label, "the value is not UTF-8")
    if isinstance(error, Overload):
        return BackendOverloaded(operation.label, str(error))
    if isinstance(error, InvalidReply):
        return BackendError(operation.label, f"the server's reply is not {error}")
    if isinstance(error, RedisClusterException) and not isinstance(error, RedisError):
        # Its text may quote anything.
        return BackendUnavailable(operation.label, "the redis client knows of no cluster")
    # Servers quote the arguments of unknown commands; the sentinel client prints whole objects.
    reason = re.split(r", with args|\W+<redis\.", str(error))[0] or type(error).__name__
    # A password that was changed on one side only is an outage until the other side follows.
    is_away = isinstance(error, UNAVAILABLE) and not isinstance(error, AuthorizationError)
    if is_away or any(word in reason for word in UNAVAILABLE_WORDS):
        return BackendUnavailable(operation.label, reason)
    return operation.failure(reason)
