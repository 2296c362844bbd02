"""Strings with a time to live, such as sessions, tokens and other small secrets."""

from collections.abc import AsyncIterator, Iterator

from .engine.backends import Backend
from .engine.durations import MAX_TTL_MS, Seconds, to_milliseconds
from .engine.keyspace import (
    DEFAULT_PREFIX,
    DEFAULT_SCAN_COUNT,
    Keyspace,
    aclear_pages,
    apages,
    clear_pages,
    pages,
    plain_text,
)
from .engine.operations import (
    CompareAndSet,
    Delete,
    DeleteIfValue,
    Get,
    Known,
    Operation,
    Scan,
    Set,
    Take,
    TimeToLive,
)
from .exceptions import InvalidConfig


class SecondaryStorage:
    """Strings under ``{key_prefix}secondary:``, each operation one atomic step.

    ``ttl`` is in seconds: an int, or a float or ``timedelta`` where fractions matter.
    None keeps the value until it is deleted, 0 means that it has expired already
    (ST-02 to ST-04). Every method has an async twin. Wrong types are a ``TypeError``,
    a negative or too large ``ttl`` is an ``InvalidConfig``; both before any I/O. A
    server that fails is a ``BackendError``, one that is away a ``BackendUnavailable``.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        key_prefix: str = DEFAULT_PREFIX,
        scan_count: int = DEFAULT_SCAN_COUNT,
    ) -> None:
        self.backend = backend
        self.keyspace = Keyspace(key_prefix, "secondary", "secondary storage", scan_count)

    def __repr__(self) -> str:
        return f"<SecondaryStorage {self.keyspace.prefix!r} on {self.backend.location}>"

    def get(self, key: str) -> str | None:
        """The value, or None if there is none or it has expired (ST-01)."""
        return self.backend.run(Get(self.keyspace.physical(key)))

    async def aget(self, key: str) -> str | None:
        return await self.backend.arun(Get(self.keyspace.physical(key)))

    def set(self, key: str, value: str, ttl: Seconds | None = None) -> None:
        """Store the value; an earlier ttl is forgotten. With ttl 0, remove it (ST-02 to ST-04)."""
        self.backend.run(self._set(key, value, ttl))

    async def aset(self, key: str, value: str, ttl: Seconds | None = None) -> None:
        await self.backend.arun(self._set(key, value, ttl))

    def set_if_not_exists(self, key: str, value: str, ttl: Seconds | None = None) -> bool:
        """Store the value if the key is absent; with ttl 0 never (ST-08 to ST-11)."""
        return self.backend.run(self._set_if_not_exists(key, value, ttl))

    async def aset_if_not_exists(self, key: str, value: str, ttl: Seconds | None = None) -> bool:
        return await self.backend.arun(self._set_if_not_exists(key, value, ttl))

    def set_if_exists(self, key: str, value: str, ttl: Seconds | None = None) -> bool:
        """Store the value if the key is present; with ttl 0 remove it. Was it present?"""
        return self.backend.run(self._set_if_exists(key, value, ttl))

    async def aset_if_exists(self, key: str, value: str, ttl: Seconds | None = None) -> bool:
        return await self.backend.arun(self._set_if_exists(key, value, ttl))

    def delete(self, key: str) -> None:
        """Remove the key, whether or not it is there (ST-06)."""
        self.backend.run(Delete(self.keyspace.physical(key)))

    async def adelete(self, key: str) -> None:
        await self.backend.arun(Delete(self.keyspace.physical(key)))

    def take(self, key: str) -> str | None:
        """The value, removed in the same step: of many callers one gets it (ST-12 to ST-14)."""
        return self.backend.run(Take(self.keyspace.physical(key)))

    async def atake(self, key: str) -> str | None:
        return await self.backend.arun(Take(self.keyspace.physical(key)))

    def compare_and_set(
        self, key: str, expected: str | None, value: str, ttl: Seconds | None = None
    ) -> bool:
        """Store the value if the key holds ``expected``, None meaning absent (ST-16 to ST-22).

        The ttl is never kept. With ttl 0 a match removes the key; there is nothing to
        match when ``expected`` is None, so that is False (ST-19, ST-20).
        """
        return self.backend.run(self._compare_and_set(key, expected, value, ttl))

    async def acompare_and_set(
        self, key: str, expected: str | None, value: str, ttl: Seconds | None = None
    ) -> bool:
        return await self.backend.arun(self._compare_and_set(key, expected, value, ttl))

    def delete_if_value(self, key: str, expected: str | None) -> bool:
        """Remove the key if it holds ``expected``; None matches nothing (ST-23 to ST-25)."""
        return self.backend.run(self._delete_if_value(key, expected))

    async def adelete_if_value(self, key: str, expected: str | None) -> bool:
        return await self.backend.arun(self._delete_if_value(key, expected))

    def ttl(self, key: str) -> int | None:
        """Seconds left, rounded up; None if the key is absent or does not expire."""
        return _seconds(self.backend.run(TimeToLive(self.keyspace.physical(key))))

    async def attl(self, key: str) -> int | None:
        return _seconds(await self.backend.arun(TimeToLive(self.keyspace.physical(key))))

    def list_keys(self) -> list[str]:
        """All logical keys, each once, in no order (ST-26, QUIRK-15)."""
        return list(dict.fromkeys(self.iter_keys()))

    async def alist_keys(self) -> list[str]:
        return list(dict.fromkeys([key async for key in self.aiter_keys()]))

    def iter_keys(self) -> Iterator[str]:
        """All logical keys as they are found, in constant memory.

        As with SCAN, a key that stays throughout is found, one that comes or goes
        meanwhile may be, and a server that resizes its table may repeat one.
        """
        walk = pages(self.backend, self.first_pages())
        return (key for page in walk for key in self.keyspace.logical_page(page))

    def aiter_keys(self) -> AsyncIterator[str]:
        walk = apages(self.backend, self.first_pages())
        return (key async for page in walk for key in self.keyspace.logical_page(page))

    def clear(self) -> int:
        """Remove every key of this prefix, and no rate limit; how many there were (ST-28 to ST-31).

        Not atomic: it goes page by page, and what is written meanwhile may stay.
        """
        cleared = sum(clear_pages(self.backend, self.first_pages()))
        for _ in clear_pages(self.backend, self.first_pages_of_django()):
            pass
        return cleared

    async def aclear(self) -> int:
        counts = aclear_pages(self.backend, self.first_pages())
        cleared = sum([count async for count in counts])
        async for _ in aclear_pages(self.backend, self.first_pages_of_django()):
            pass
        return cleared

    def first_pages(self) -> list[Scan]:
        """Where a walk over all values starts."""
        return [self.keyspace.first_page()]

    def first_pages_of_django(self) -> list[Scan]:
        """Where a walk over what Django adds to values starts; ``clear`` removes that as well."""
        return [self.keyspace.for_django().first_page()]

    def _set(self, key: str, value: str, ttl: Seconds | None) -> Operation[bool]:
        physical, value, ttl_ms = self._checked(key, value, ttl)
        return Delete(physical) if ttl_ms == 0 else Set(physical, value, ttl_ms)

    def _set_if_not_exists(self, key: str, value: str, ttl: Seconds | None) -> Operation[bool]:
        physical, value, ttl_ms = self._checked(key, value, ttl)
        return Known(False) if ttl_ms == 0 else Set(physical, value, ttl_ms, only_if="absent")

    def _set_if_exists(self, key: str, value: str, ttl: Seconds | None) -> Operation[bool]:
        physical, value, ttl_ms = self._checked(key, value, ttl)
        return Delete(physical) if ttl_ms == 0 else Set(physical, value, ttl_ms, only_if="present")

    def _compare_and_set(
        self, key: str, expected: str | None, value: str, ttl: Seconds | None
    ) -> Operation[bool]:
        physical, value, ttl_ms = self._checked(key, value, ttl)
        if expected is not None:
            expected = plain_text(expected, "expected")
        if ttl_ms != 0:
            return CompareAndSet(physical, expected, value, ttl_ms)
        return Known(False) if expected is None else DeleteIfValue(physical, expected)

    def _delete_if_value(self, key: str, expected: str | None) -> Operation[bool]:
        if expected is None:
            return Known(False)
        expected = plain_text(expected, "expected")
        return DeleteIfValue(self.keyspace.physical(key), expected)

    def _checked(self, key: str, value: str, ttl: Seconds | None) -> tuple[str, str, int | None]:
        physical = self.keyspace.physical(key)
        value = plain_text(value, "value")
        if ttl is None:
            return physical, value, None
        ttl_ms = to_milliseconds(ttl, "ttl")
        if ttl_ms < 0:
            raise InvalidConfig("secondary storage ttl must not be negative")
        if ttl_ms > MAX_TTL_MS:
            raise InvalidConfig("secondary storage ttl must fit in i64")
        return physical, value, ttl_ms


def _seconds(ttl_ms: int | None) -> int | None:
    return None if ttl_ms is None else -(-ttl_ms // 1000)
