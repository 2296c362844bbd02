"""What is kept in this process: values, hashes and rate limit buckets, each until it expires.

Plain data without a lock; ``MemoryBackend`` takes care of threads.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar


class Value(NamedTuple):
    """A string, and the epoch milliseconds at which it expires; None means never."""

    content: str
    expires_at: int | None


class Hash(NamedTuple):
    """Named bytes, and the epoch milliseconds at which they expire."""

    content: dict[str, bytes]
    expires_at: int


class Counters(NamedTuple):
    """A rate limit bucket: the state of each rule in it, and when it expires."""

    content: dict[str, Any]
    expires_at: int


E = TypeVar("E", Value, Hash, Counters)


def epoch_ms() -> int:
    """Now, in epoch milliseconds."""
    return time.time_ns() // 1_000_000


class Memory:
    """``clock`` returns epoch milliseconds; at most ``max_buckets`` rate limit buckets are kept."""

    def __init__(self, clock: Callable[[], int], max_buckets: int) -> None:
        self.clock = clock
        self._max_buckets = max_buckets
        self._values: dict[str, Value] = {}
        self._hashes: dict[str, Hash] = {}
        # Oldest write first, so that the first is the one to drop.
        self._buckets: OrderedDict[str, Counters] = OrderedDict()
        self._sweep_at = 1024
        self._swept_at_ms = 0

    def find(self, key: str) -> Value | None:
        """The live value at ``key``, with its expiry."""
        return self._live(self._values, key)

    def get(self, key: str) -> str | None:
        value = self._live(self._values, key)
        return None if value is None else value.content

    def set(self, key: str, content: str, ttl_ms: int | None) -> None:
        self.set_until(key, content, None if ttl_ms is None else self.clock() + ttl_ms)

    def set_until(self, key: str, content: str, expires_at: int | None) -> None:
        self._make_room()
        self._values[key] = Value(content, expires_at)

    def pop(self, key: str) -> str | None:
        """Remove the value at ``key``, and return it."""
        content = self.get(key)
        self._values.pop(key, None)
        return content

    def find_hash(self, key: str) -> Hash | None:
        return self._live(self._hashes, key)

    def set_hash(self, key: str, content: dict[str, bytes], ttl_ms: int) -> None:
        self._make_room()
        self._hashes[key] = Hash(content, self.clock() + ttl_ms)

    def find_bucket(self, key: str) -> Counters | None:
        return self._live(self._buckets, key)

    def state(self, key: str, slot: str) -> Any:
        """The state in a slot of a bucket; () if there is none."""
        found = self.find_bucket(key)
        return found.content.get(slot, ()) if found else ()

    def change_state(self, key: str, slot: str, state: Any) -> None:
        """Change the state in a slot of an existing bucket; () empties the slot."""
        found = self.find_bucket(key)
        if found is None:
            return
        content = {name: kept for name, kept in found.content.items() if name != slot}
        if state != ():
            content[slot] = state
        if content:
            self._buckets[key] = Counters(content, found.expires_at)
        else:
            del self._buckets[key]

    def set_state(self, key: str, slot: str, state: Any, keep_ms: int) -> None:
        """Keep a rule's state for ``keep_ms``; no rule shortens the life of its bucket."""
        found = self._live(self._buckets, key)
        if found is None:
            self._make_room()
            found = Counters({}, 0)
        expires_at = max(found.expires_at, self.clock() + keep_ms)
        self._buckets[key] = Counters({**found.content, slot: state}, expires_at)
        self._buckets.move_to_end(key)

    def remove(self, key: str) -> bool:
        """Remove what is at ``key``. Was there anything?"""
        if self.pop(key) is not None:
            return True
        if self.find_hash(key) is not None:
            del self._hashes[key]
            return True
        return self.find_bucket(key) is not None and bool(self._buckets.pop(key))

    def keys(self, prefix: str) -> list[str]:
        """All live keys that start with ``prefix``."""
        self._sweep()
        found = [*self._values, *self._hashes, *self._buckets]
        return [key for key in found if key.startswith(prefix)]

    def __len__(self) -> int:
        return len(self._values) + len(self._hashes) + len(self._buckets)

    def _live(self, entries: dict[str, E], key: str) -> E | None:
        """The entry at ``key``; an expired one is dropped (ST-36)."""
        entry = entries.get(key)
        if entry is not None and self._is_expired(entry):
            del entries[key]
            return None
        return entry

    def _is_expired(self, entry: Value | Hash | Counters) -> bool:
        return entry.expires_at is not None and entry.expires_at <= self.clock()

    def _make_room(self) -> None:
        """Sweep whenever the number of entries has doubled: a constant cost per write."""
        if len(self) >= self._sweep_at:
            self._sweep()
            self._sweep_at = max(1024, 2 * len(self))
        if len(self._buckets) >= self._max_buckets:
            # Expired buckets are dropped before live ones, but in a flood of new buckets not every
            # write may search through all of them.
            if self.clock() - self._swept_at_ms >= 1000:
                self._sweep()
            while len(self._buckets) >= self._max_buckets:
                self._buckets.popitem(last=False)

    def _sweep(self) -> None:
        self._swept_at_ms = self.clock()
        for entries in (self._values, self._hashes, self._buckets):
            for key in [key for key, entry in entries.items() if self._is_expired(entry)]:
                del entries[key]
