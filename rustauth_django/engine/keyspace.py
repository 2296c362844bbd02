"""Names of keys: the one place where a logical name becomes a physical one and back."""

import re
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field, replace

from ..exceptions import InvalidConfig
from .backends import Backend
from .operations import Page, Scan, Unlink

DEFAULT_PREFIX = "rustauth:"
DEFAULT_SCAN_COUNT = 100
# The most sessions of a user: their index is read and written as a whole.
MAX_SESSIONS = 1_000
# The purpose of a one-time token: the first part of its name.
PURPOSE = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Keyspace:
    """The keys ``{prefix}{namespace}:*``; errors name their ``owner`` (KEY-01, KEY-02).

    No namespace starts with another, so that walking or clearing one never meets a
    key of the other (KEY-03).
    """

    prefix: str
    namespace: str
    owner: str
    scan_count: int
    #: What every physical key starts with; "" without a prefix.
    _root: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        prefix = plain_text(self.prefix, "key_prefix")
        object.__setattr__(self, "_root", f"{prefix}{self.namespace}:" if prefix else "")
        if isinstance(self.scan_count, bool) or not isinstance(self.scan_count, int):
            raise TypeError(f"scan_count must be an int, not {type(self.scan_count).__name__}")

    @property
    def root(self) -> str:
        """What every physical key starts with. Raises ``InvalidConfig`` without a prefix."""
        if not self._root:
            raise InvalidConfig(f"{self.owner} key prefix must not be empty")
        return self._root

    def for_django(self) -> "Keyspace":
        """The keys of what Django adds to a value of this keyspace, under the same names."""
        return replace(self, namespace="django")

    def physical(self, key: str) -> str:
        """The name under which the server knows ``key``."""
        if type(key) is str and key.isascii() and self._root:
            return self._root + key
        return self.root + plain_text(key, "key", errors="surrogateescape")

    def logical(self, physical: str) -> str:
        """The name under which callers know a physical key."""
        return physical.removeprefix(self.root)

    def logical_page(self, page: Iterable[str]) -> list[str]:
        """The logical keys of a page of physical ones."""
        root = self.root
        return [physical.removeprefix(root) for physical in page]

    def first_page(self) -> Scan:
        """Where a walk over all keys starts. Validates before any I/O (ST-32, ST-33)."""
        root = self.root
        if self.scan_count <= 0:
            raise InvalidConfig(f"{self.owner} scan count must be greater than zero")
        return Scan(root, cursor=0, count=self.scan_count)


def next_page(scan: Scan, page: Page) -> Scan | None:
    """What follows ``page``; an empty page is not the end, cursor 0 is (ST-34)."""
    return Scan(scan.prefix, page.cursor, scan.count) if page.cursor else None


def pages(backend: Backend, firsts: Iterable[Scan]) -> Iterator[list[str]]:
    """The keys of some walks, page by page, each key at most once a page."""
    for first in firsts:
        scan: Scan | None = first
        while scan:
            page = backend.run(scan)
            yield list(dict.fromkeys(page.keys))
            scan = next_page(scan, page)


async def apages(backend: Backend, firsts: Iterable[Scan]) -> AsyncIterator[list[str]]:
    """The keys of some walks, page by page, each key at most once a page."""
    for first in firsts:
        scan: Scan | None = first
        while scan:
            page = await backend.arun(scan)
            yield list(dict.fromkeys(page.keys))
            scan = next_page(scan, page)


def clear_pages(backend: Backend, firsts: Iterable[Scan]) -> Iterator[int]:
    """Remove all keys of some walks; yields how many went with each page (QUIRK-14)."""
    for keys in pages(backend, firsts):
        yield backend.run(Unlink(tuple(keys))) if keys else 0


async def aclear_pages(backend: Backend, firsts: Iterable[Scan]) -> AsyncIterator[int]:
    """Remove all keys of some walks; yields how many went with each page (QUIRK-14)."""
    async for keys in apages(backend, firsts):
        yield await backend.arun(Unlink(tuple(keys))) if keys else 0


def plain_text(value: str, name: str, errors: str = "strict") -> str:
    """``value`` as a plain str, whatever subclass it was.

    Raises ``TypeError`` if it is none, ``ValueError`` if UTF-8 cannot hold it.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    if not value.isascii():
        value.encode("utf-8", errors)
    return str.__str__(value)
