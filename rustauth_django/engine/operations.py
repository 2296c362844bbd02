"""The operations that a backend carries out, as values.

Each operation is defined once: ``command()`` is sent to a server, ``answer(reply)`` makes a result
of the reply, and ``in_memory(memory)`` does the same in this process's memory. The backend decides
how it waits: ``backend.run(Get(key))`` is a ``str | None``, and so is ``await
backend.arun(Get(key))``. Keys are physical, that is with prefix and namespace; durations are
milliseconds; ``ttl_ms`` None means no expiry.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from ..exceptions import BackendError
from .commands import Command, Script, Several
from .memory import Memory
from .plans import Plan

T_co = TypeVar("T_co", covariant=True)
Condition: TypeAlias = Literal["absent", "present"]

# A page is held in memory as a whole.
MAX_PAGE = 10_000

CONDITIONS = {"absent": ("NX",), "present": ("XX",), None: ()}

COMPARE_AND_SET = Script.load(__package__, "lua/compare_and_set.lua")
DELETE_IF_VALUE = Script.load(__package__, "lua/delete_if_value.lua")


class InvalidReply(Exception):
    """A reply of another kind than the command has; the message says which was expected."""


class Operation(ABC, Generic[T_co]):
    """One atomic step on the server, answered with a ``T_co``."""

    __slots__ = ()
    label: ClassVar[str] = "nothing"

    @abstractmethod
    def command(self) -> Command | None:
        """The command to send; None if no server is needed."""

    @abstractmethod
    def answer(self, reply: Any) -> T_co:
        """The result that a server's reply stands for. Raises ``InvalidReply``,
        ``UnicodeDecodeError``.
        """

    @abstractmethod
    def in_memory(self, memory: Memory) -> T_co:
        """Carry the operation out in this process's memory, and return the result."""

    def across_slots(self) -> "Plan[Operation[Any], T_co] | None":
        """For a cluster: a plan of one operation for each key; None if the slot is one."""
        return None

    def failure(self, reason: str) -> BackendError:
        """The error to raise when the server answers with an error."""
        return BackendError(self.label, reason)

    def __repr__(self) -> str:
        # Keys and values may be secrets, and tracebacks may print a repr.
        return f"<{type(self).__name__}: {self.label}>"


@dataclass(frozen=True, slots=True, repr=False)
class Known(Operation[T_co]):
    """An answer that needs no server."""

    value: T_co

    def command(self) -> None:
        return None

    def answer(self, reply: Any) -> T_co:
        return self.value

    def in_memory(self, memory: Memory) -> T_co:
        return self.value


@dataclass(frozen=True, slots=True, repr=False)
class Get(Operation[str | None]):
    """The value at ``key``; ``errors`` says what to do with bytes that are no UTF-8."""

    label = "secondary get"
    key: str
    errors: str = "strict"

    def command(self) -> Command:
        return "GET", encode(self.key)

    def answer(self, reply: Any) -> str | None:
        return optional_text(reply, self.errors)

    def in_memory(self, memory: Memory) -> str | None:
        return memory.get(self.key)


@dataclass(frozen=True, slots=True, repr=False)
class Set(Operation[bool]):
    """Store a value; ``only_if`` the key is "absent" or "present". Was it stored?"""

    label = "secondary set"
    key: str
    value: str
    ttl_ms: int | None
    only_if: Condition | None = None

    def command(self) -> Command:
        expiry = () if self.ttl_ms is None else ("PX", self.ttl_ms)
        condition = CONDITIONS[self.only_if]
        return ("SET", encode(self.key), self.value.encode(), *expiry, *condition)

    def answer(self, reply: Any) -> bool:
        return is_done(reply)

    def in_memory(self, memory: Memory) -> bool:
        is_present = memory.get(self.key) is not None
        if self.only_if is not None and is_present != (self.only_if == "present"):
            return False
        memory.set(self.key, self.value, self.ttl_ms)
        return True


@dataclass(frozen=True, slots=True, repr=False)
class Delete(Operation[bool]):
    """Remove ``key``. Was it there?"""

    label = "secondary delete"
    key: str

    def command(self) -> Command:
        return "DEL", encode(self.key)

    def answer(self, reply: Any) -> bool:
        return integer(reply) > 0

    def in_memory(self, memory: Memory) -> bool:
        return memory.pop(self.key) is not None


@dataclass(frozen=True, slots=True, repr=False)
class Take(Operation[str | None]):
    """The value at ``key``, removed in the same step."""

    label = "secondary take"
    key: str
    errors: str = "strict"

    def command(self) -> Command:
        return "GETDEL", encode(self.key)

    def answer(self, reply: Any) -> str | None:
        return optional_text(reply, self.errors)

    def in_memory(self, memory: Memory) -> str | None:
        return memory.pop(self.key)


@dataclass(frozen=True, slots=True, repr=False)
class CompareAndSet(Operation[bool]):
    """Store ``value`` if the key holds ``expected``; None means that it is absent."""

    label = "secondary compare_and_set"
    key: str
    expected: str | None
    value: str
    ttl_ms: int | None

    def command(self) -> Command:
        is_absent = int(self.expected is None)
        expected, value = (self.expected or "").encode(), self.value.encode()
        ttl = "" if self.ttl_ms is None else self.ttl_ms
        return COMPARE_AND_SET.call([encode(self.key)], is_absent, expected, value, ttl)

    def answer(self, reply: Any) -> bool:
        return integer(reply) > 0

    def in_memory(self, memory: Memory) -> bool:
        if memory.get(self.key) != self.expected:
            return False
        memory.set(self.key, self.value, self.ttl_ms)
        return True


@dataclass(frozen=True, slots=True, repr=False)
class DeleteIfValue(Operation[bool]):
    """Remove ``key`` if it holds ``expected``."""

    label = "secondary delete_if_value"
    key: str
    expected: str

    def command(self) -> Command:
        return DELETE_IF_VALUE.call([encode(self.key)], self.expected.encode())

    def answer(self, reply: Any) -> bool:
        return integer(reply) > 0

    def in_memory(self, memory: Memory) -> bool:
        return memory.get(self.key) == self.expected and memory.pop(self.key) is not None


@dataclass(frozen=True, slots=True, repr=False)
class TimeToLive(Operation[int | None]):
    """Milliseconds that ``key`` has left; None when it is absent or does not expire."""

    label = "secondary ttl"
    key: str

    def command(self) -> Command:
        return "PTTL", encode(self.key)

    def answer(self, reply: Any) -> int | None:
        left = integer(reply)
        return None if left < 0 else left

    def in_memory(self, memory: Memory) -> int | None:
        found = memory.find(self.key) or memory.find_hash(self.key) or memory.find_bucket(self.key)
        return found and found.expires_at and found.expires_at - memory.clock()


@dataclass(frozen=True, slots=True, repr=False)
class GetMany(Operation[list[str | None]]):
    """The values at ``keys``, in their order; None also for a value that is no text."""

    label = "secondary get"
    keys: tuple[str, ...]

    def command(self) -> Command:
        return ("MGET", *map(encode, self.keys))

    def answer(self, reply: Any) -> list[str | None]:
        return texts(reply, len(self.keys))

    def in_memory(self, memory: Memory) -> list[str | None]:
        return [memory.get(key) for key in self.keys]

    def across_slots(self) -> "Plan[Operation[Any], list[str | None]] | None":
        return self._each() if len(self.keys) > 1 else None

    def _each(self) -> "Plan[Operation[Any], list[str | None]]":
        found: list[str | None] = yield GetEach(self.keys)
        return found


@dataclass(frozen=True, slots=True, repr=False)
class GetEach(GetMany):
    """The same, where the keys may be on different servers."""

    def command(self) -> Command:
        return Several.of(*(("GET", encode(key)) for key in self.keys))

    def across_slots(self) -> None:
        """Each command goes to its own server."""


class Page(NamedTuple):
    """Some keys of a scan; ``cursor`` 0 says that it was the last page."""

    cursor: int
    keys: list[str]


@dataclass(frozen=True, slots=True, repr=False)
class Scan(Operation[Page]):
    """The next page of the keys that start with ``prefix``, about ``count`` of them."""

    label = "scan"
    prefix: str
    cursor: int
    count: int

    def command(self) -> Command:
        pattern = encode(f"{escape_glob(self.prefix)}*")
        count = min(self.count, MAX_PAGE)
        return "SCAN", self.cursor, "MATCH", pattern, "COUNT", count

    def answer(self, reply: Any) -> Page:
        cursor, keys = array(reply, 2)
        # A page may be long, so there is no call of a function for each key.
        try:
            return Page(
                int(cursor), [key.decode("utf-8", "surrogateescape") for key in array(keys)]
            )
        except AttributeError:
            raise InvalidReply("an array of strings") from None

    def in_memory(self, memory: Memory) -> Page:
        return Page(0, memory.keys(self.prefix))


@dataclass(frozen=True, slots=True, repr=False)
class Unlink(Operation[int]):
    """Remove ``keys``; the server frees the memory later. How many were there?"""

    label = "clear"
    keys: tuple[str, ...]

    def command(self) -> Command:
        return ("UNLINK", *map(encode, self.keys))

    def answer(self, reply: Any) -> int:
        return integer(reply)

    def in_memory(self, memory: Memory) -> int:
        return sum(memory.remove(key) for key in self.keys)

    def across_slots(self) -> "Plan[Operation[Any], int] | None":
        return self._one_by_one() if len(self.keys) > 1 else None

    def _one_by_one(self) -> "Plan[Operation[Any], int]":
        removed = 0
        for key in self.keys:
            removed += yield type(self)((key,))
        return removed


class ServerInfo(NamedTuple):
    """The server: ``name`` ("valkey", "redis", "memory"), version, mode, eviction policy."""

    name: str
    version: str
    mode: str
    eviction_policy: str


@dataclass(frozen=True, slots=True, repr=False)
class Describe(Operation[ServerInfo]):
    """The server's name, version, mode and eviction policy."""

    label = "info"

    def command(self) -> Command:
        return ("INFO",)

    def answer(self, reply: Any) -> ServerInfo:
        lines = (line.partition(":") for line in text(reply, "replace").splitlines())
        info = {name: value for name, _, value in lines}
        name = info.get("server_name", "redis")
        return ServerInfo(
            name=name,
            version=info.get(f"{name}_version", info.get("redis_version", "unknown")),
            mode=info.get("redis_mode", info.get("server_mode", "unknown")),
            eviction_policy=info.get("maxmemory_policy", "unknown"),
        )

    def in_memory(self, memory: Memory) -> ServerInfo:
        return ServerInfo("memory", "", "per process", "noeviction")


def encode(key: str) -> bytes:
    """The bytes of a key. Somebody else's key that is no UTF-8 comes out of a scan and goes back
    unchanged.
    """
    return key.encode("utf-8", "surrogateescape")


def escape_glob(literal: str) -> str:
    r"""Escape what SCAN's MATCH would expand: ``* ? [ ] \``, nothing else (KEY-09)."""
    return "".join(f"\\{char}" if char in "*?[]\\" else char for char in literal)


def text(reply: Any, errors: str = "strict") -> str:
    """A reply that is a string, as text."""
    if not isinstance(reply, bytes):
        raise InvalidReply("a string")
    return reply.decode("utf-8", errors)


def optional_text(reply: Any, errors: str = "strict") -> str | None:
    """A reply as text, or None if there was nothing."""
    return None if reply is None else text(reply, errors)


def texts(reply: Any, size: int) -> list[str | None]:
    """A reply that is an array of strings, or None where there was nothing.

    This app stores only UTF-8. Other bytes become text that no reader takes for a record.
    """
    return [optional_text(value, "replace") for value in array(reply, size)]


def integer(reply: Any) -> int:
    """A reply that is a number."""
    if type(reply) is not int:  # True is an int as well, and RESP3 has it
        raise InvalidReply("a number")
    return reply


def array(reply: Any, size: int | None = None) -> list[Any]:
    """A reply that is an array, of a certain size where that is known."""
    if not isinstance(reply, list) or size not in (None, len(reply)):
        raise InvalidReply("an array" if size is None else f"an array of {size}")
    return reply


def is_done(reply: Any) -> bool:
    """A reply that is OK, or nothing where a condition did not hold."""
    if reply is not None and reply != b"OK":
        raise InvalidReply("OK")
    return reply is not None
