"""RESP, the protocol of Redis and Valkey: from bytes to replies.

A reader is fed bytes as they arrive and gives each reply once it is complete: bytes, numbers, None,
lists, dictionaries, or an exception for an error. Strings stay bytes, whatever the client's options
are. hiredis reads where it is installed, else Python; both read RESP2 and RESP3.
"""

from collections.abc import Generator
from contextlib import suppress
from importlib.util import find_spec
from traceback import walk_tb
from typing import Any, Protocol

from django.utils.module_loading import import_string
from redis._parsers.base import BaseParser
from redis.exceptions import InvalidResponse, ReadOnlyError, RedisError, ResponseError

# By its path: the package is an extra.
HIREDIS: Any = import_string("hiredis.Reader") if find_spec("hiredis") else None
# A reader's answer while a reply is not complete.
INCOMPLETE: Any = object()


class Overload(Exception):
    """No connection was free in time: this process has more calls at once than connections."""

    def __str__(self) -> str:
        return "no connection was free in time; there are more calls at once than connections"


# The methods of a credential provider.
PROVIDING = {"get_credentials", "get_credentials_async"}


class CredentialsMissing(RedisError):
    """A credential provider failed. Its own exception may quote anything, so it is not shown."""


def opening_failure(pool: Any, error: Exception) -> Exception:
    """The error of a connection that could not be opened.

    A credential provider may raise any exception. An exception of another kind that comes from
    elsewhere is a signal handler's, and reaches the caller as it is.
    """
    if pool.connection_kwargs.get("credential_provider") is None:
        return error
    calls = [frame.f_code.co_name for frame, _ in walk_tb(error.__traceback__)]
    if isinstance(error, RedisError | OSError) or not PROVIDING & set(calls):
        return error
    return CredentialsMissing(f"the credential provider raised {type(error).__name__}")


class Push(list[Any]):
    """A message that a server sends unasked (RESP3); it answers no call."""


PUSHES: tuple[type, ...] = (Push,)
if HIREDIS is not None:
    # hiredis has had a class for it since version 3.2.
    with suppress(ImportError):
        PUSHES = (Push, import_string("hiredis.PushNotification"))


class Reader(Protocol):
    """The interface of both readers."""

    def feed(self, data: bytes, /) -> None: ...
    def gets(self) -> Any: ...
    def has_data(self) -> bool: ...


def error_of(message: str) -> ResponseError:
    """redis-py's exception for a server's error."""
    try:
        error: ResponseError = BaseParser.parse_error(message)  # type: ignore[no-untyped-call]
    except (ValueError, IndexError) as failure:
        if not is_raised_in("redis", failure):
            raise
        return ResponseError(message)  # such as a MOVED without an address
    return error


def is_raised_in(package: str, error: BaseException) -> bool:
    """Was an exception raised by code of this package, and not by a signal handler?"""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].f_globals.get("__name__", "").split(".")[0] == package


def is_read_only(error: Exception) -> bool:
    """Does a replica answer? Redis 6.2 wraps an error within a script."""
    return isinstance(error, ReadOnlyError) or "-READONLY " in str(error)


def join(replies: list[Any]) -> Any:
    """The reply to several commands: theirs, or the first error that is not about a key's type."""
    for index, reply in enumerate(replies):
        if isinstance(reply, Exception):
            if not str(reply).startswith("WRONGTYPE"):
                return reply
            replies[index] = None
    return replies


def make_reader() -> Reader:
    """A reader for a new connection. It raises ``InvalidResponse`` for what is not RESP."""
    if HIREDIS is None:
        return PythonReader()
    reader: Reader = HIREDIS(
        protocolError=InvalidResponse,
        replyError=error_of,
        errors="replace",
        notEnoughData=INCOMPLETE,
    )
    return reader


class PythonReader:
    """A reader that needs no other package.

    Each reply is read by a generator, which yields where it needs more bytes. So a reply in a
    thousand pieces is parsed only once.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._at = 0
        self._reply: Generator[None, None, Any] | None = None

    def feed(self, data: bytes, /) -> None:
        self._data += data

    def has_data(self) -> bool:
        return self._reply is not None or bool(self._data)

    def gets(self) -> Any:
        if not self._data and self._reply is None:
            return INCOMPLETE
        if self._reply is None:
            self._reply = self._read()
        try:
            next(self._reply)
        except StopIteration as end:
            self._reply = None
            del self._data[: self._at]
            self._at = 0
            return end.value
        return INCOMPLETE

    def _read(self, depth: int = 0) -> Generator[None, None, Any]:
        line = yield from self._line()
        kind, rest = line[:1], line[1:]
        if depth > MAX_DEPTH:
            raise InvalidResponse("a reply is nested too deeply")
        match kind:
            case b"+" | b"(":
                return rest if kind == b"+" else number(rest)
            case b"-":
                return error_of(rest.decode("utf-8", "replace"))
            case b":":
                return number(rest)
            case b"$" | b"=" | b"!":
                text = yield from self._bulk(number(rest))
                if text is not None and kind == b"!":
                    return error_of(text.decode("utf-8", "replace"))
                return text[4:] if text is not None and kind == b"=" else text
            case b"*" | b"~" | b">":
                size = number(rest)
                if size < 0:
                    return None
                items = Push() if kind == b">" else []
                for _ in range(size):
                    items.append((yield from self._read(depth + 1)))
                return items
            case b"%":
                pairs = {}
                for _ in range(number(rest)):
                    name = yield from self._read(depth + 1)
                    if isinstance(name, list | dict):
                        raise InvalidResponse(NOT_RESP)
                    pairs[name] = yield from self._read(depth + 1)
                return pairs
            case b"_":
                return None
            case b"#":
                return rest == b"t"
            case b",":
                return number(rest, float)
        raise InvalidResponse(NOT_RESP)

    def _line(self) -> Generator[None, None, bytes]:
        searched = self._at
        while (end := self._data.find(b"\r\n", searched)) < 0:
            # The first half of the line's end may have arrived.
            searched = max(self._at, len(self._data) - 1)
            if searched - self._at > MAX_LINE:
                raise InvalidResponse(NOT_RESP)
            yield
        line = bytes(self._data[self._at : end])
        self._at = end + 2
        return line

    def _bulk(self, size: int) -> Generator[None, None, bytes | None]:
        if size < 0:
            return None
        while len(self._data) < self._at + size + 2:
            yield
        text = bytes(self._data[self._at : self._at + size])
        self._at += size + 2
        return text


MAX_DEPTH = 8
MAX_LINE = 65_536
NOT_RESP = "the server's reply is not RESP"


def number(text: bytes, kind: Any = int) -> Any:
    """The number in a line of a reply."""
    try:
        return kind(text)
    except ValueError:
        raise InvalidResponse(NOT_RESP) from None
