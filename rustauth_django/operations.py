"""Everything a backend can be asked, as values.

An operation says what, never how or when: ``backend.run(Get(key))`` is a
``str | None`` and so is ``await backend.arun(Get(key))``. Keys are physical, that is
with prefix and namespace; durations are milliseconds; ``ttl_ms`` None means no expiry.
"""

from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, NamedTuple, TypeVar

from .rates import RateLimitDecision, RateLimitRule

T_co = TypeVar("T_co", covariant=True)


class Operation(Generic[T_co]):
    """One atomic step on the server, answered with a ``T_co``."""

    __slots__ = ()
    label: ClassVar[str] = "nothing"

    def __repr__(self) -> str:
        # Keys and values may be secrets, and tracebacks print what is at hand.
        return f"<{type(self).__name__}: {self.label}>"


@dataclass(frozen=True, slots=True, repr=False)
class Known(Operation[T_co]):
    """An answer that needs no server."""

    answer: T_co


@dataclass(frozen=True, slots=True, repr=False)
class Get(Operation[str | None]):
    """The value at ``key``."""

    label = "secondary get"
    key: str


@dataclass(frozen=True, slots=True, repr=False)
class Set(Operation[bool]):
    """Store a value; ``only_if`` the key is "absent" or "present". Was it stored?"""

    label = "secondary set"
    key: str
    value: str
    ttl_ms: int | None
    only_if: Literal["absent", "present"] | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Delete(Operation[bool]):
    """Remove ``key``. Was it there?"""

    label = "secondary delete"
    key: str


@dataclass(frozen=True, slots=True, repr=False)
class Take(Operation[str | None]):
    """The value at ``key``, removed in the same step."""

    label = "secondary take"
    key: str


@dataclass(frozen=True, slots=True, repr=False)
class CompareAndSet(Operation[bool]):
    """Store ``value`` if the key holds ``expected``; None means that it is absent."""

    label = "secondary compare_and_set"
    key: str
    expected: str | None
    value: str
    ttl_ms: int | None


@dataclass(frozen=True, slots=True, repr=False)
class DeleteIfValue(Operation[bool]):
    """Remove ``key`` if it holds ``expected``."""

    label = "secondary delete_if_value"
    key: str
    expected: str


@dataclass(frozen=True, slots=True, repr=False)
class TimeToLive(Operation[int | None]):
    """Milliseconds that ``key`` has left; None when it is absent or does not expire."""

    label = "secondary ttl"
    key: str


@dataclass(frozen=True, slots=True, repr=False)
class GetMany(Operation[list[str | None]]):
    """The values at ``keys``, in their order."""

    label = "secondary get"
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, repr=False)
class PutSession(Operation[int | None]):
    """Store a session ``only_if`` its key is so, and see to it that its user's index has it.

    The index lives at least as long as the longest of its sessions. How many tokens it then
    has, or 0 if it had this one; None if the session was not stored. Without a ``key`` the
    index alone is seen to.
    """

    label = "session put"
    index: str
    token: str
    ttl_ms: int
    key: str | None = None
    value: str = ""
    only_if: Literal["absent", "present"] = "present"


@dataclass(frozen=True, slots=True, repr=False)
class DropTokens(Operation[int]):
    """Take ``tokens`` out of the index of a user's sessions. How many were in it?"""

    label = "session drop"
    index: str
    tokens: tuple[str, ...]


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


@dataclass(frozen=True, slots=True, repr=False)
class Unlink(Operation[int]):
    """Remove ``keys``; the memory is given back later. How many were there?"""

    label = "clear"
    keys: tuple[str, ...]


class Bucket(NamedTuple):
    """A limit on a subject: the physical key it is kept under, its rule, and the logical key."""

    physical: str
    rule: RateLimitRule
    key: str


@dataclass(frozen=True, slots=True, repr=False)
class Consume(Operation[tuple[RateLimitDecision, ...]]):
    """Count a request against all ``buckets``, or, if one refuses it, against none.

    ``now_ms`` is epoch milliseconds; None means the backend's own clock. A ``cost`` above
    zero is spent, all or nothing; zero only looks; what is below zero is given back.
    """

    label = "rate limit consume"
    buckets: tuple[Bucket, ...]
    now_ms: int | None = None
    cost: int = 1


@dataclass(frozen=True, slots=True, repr=False)
class Forget(Operation[int]):
    """Remove the buckets at ``keys``. How many were there?"""

    label = "rate limit reset"
    keys: tuple[str, ...]


class Fields(NamedTuple):
    """What a bucket holds, and the milliseconds it has left."""

    fields: dict[str, str]
    ttl_ms: int


@dataclass(frozen=True, slots=True, repr=False)
class ReadFields(Operation[Fields | None]):
    """What the bucket at ``key`` holds, as it is on the wire; None if there is none."""

    label = "rate limit read"
    key: str


class ServerInfo(NamedTuple):
    """What answers: ``name`` ("valkey", "redis", "memory"), version, mode, eviction policy."""

    name: str
    version: str
    mode: str
    eviction_policy: str


@dataclass(frozen=True, slots=True, repr=False)
class Describe(Operation[ServerInfo]):
    """Who is there."""

    label = "info"
