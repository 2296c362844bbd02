"""This process's memory: for development, for tests, and as a stand-in.

The same answers as a server, from one dictionary under one lock. It is gone with the
process and no other process sees it.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import astuple
from threading import Lock
from typing import Any, NamedTuple, TypeVar

from ..algorithms.base import State
from ..algorithms.consume import TTL_MARGIN_MS, consume, decide
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
from ..rates import RateLimitDecision
from ..records import read_index, write_index
from .base import Backend

T = TypeVar("T")


class Entry(NamedTuple):
    """A value, and the epoch milliseconds at which it is gone."""

    content: str
    expires_at: int | None


class Tally(NamedTuple):
    """A bucket: the state of each rule in it, and when it is gone."""

    content: dict[str, State]
    expires_at: int


E = TypeVar("E", Entry, Tally)


def epoch_ms() -> int:
    """Now, in epoch milliseconds."""
    return time.time_ns() // 1_000_000


class MemoryBackend(Backend):
    """``clock`` returns epoch milliseconds; at most ``max_buckets`` rate limit buckets are kept."""

    location = "memory://"

    def __init__(self, *, clock: Callable[[], int] = epoch_ms, max_buckets: int = 100_000) -> None:
        self._clock = clock
        self._max_buckets = max_buckets
        self._lock = Lock()
        self._values: dict[str, Entry] = {}
        # Oldest write first, so that the first is the one to drop.
        self._buckets: OrderedDict[str, Tally] = OrderedDict()
        self._sweep_at = 1024
        self._swept_at_ms = 0

    def run(self, operation: Operation[T]) -> T:
        with self._lock:
            result: T = self._answer(operation)
        return result

    async def arun(self, operation: Operation[T]) -> T:
        return self.run(operation)

    def close(self) -> None:
        """Nothing to give back: the data stays as long as the backend does."""

    async def aclose(self) -> None:
        """Nothing to give back: the data stays as long as the backend does."""

    def _answer(self, operation: Operation[Any]) -> Any:
        match operation:
            case Consume():
                return self._consume(operation)
            case Get(key):
                return self._value(key)
            case Set(key, value, ttl_ms, only_if):
                present = self._value(key) is not None
                if only_if is not None and present != (only_if == "present"):
                    return False
                self._store(key, value, ttl_ms)
                return True
            case Delete(key):
                return self._pop(key) is not None
            case Take(key):
                return self._pop(key)
            case CompareAndSet(key, expected, value, ttl_ms):
                if self._value(key) != expected:
                    return False
                self._store(key, value, ttl_ms)
                return True
            case DeleteIfValue(key, expected):
                return self._value(key) == expected and self._pop(key) is not None
            case TimeToLive(key):
                entry = self._entry(self._values, key)
                if entry is None or entry.expires_at is None:
                    return None
                return entry.expires_at - self._clock()
            case GetMany(keys):
                return [self._value(key) for key in keys]
            case PutSession():
                return self._put_session(operation)
            case DropTokens(index, dropped):
                return self._drop_tokens(index, dropped)
            case Scan(prefix):
                self._sweep()
                found = [*self._values, *self._buckets]
                return Page(0, [key for key in found if key.startswith(prefix)])
            case Unlink(keys):
                return sum(self._remove(key) for key in keys)
            case Forget(keys):
                return sum(self._remove(key) for key in keys)
            case ReadFields(key):
                return self._fields(key)
            case Known(answer):
                return answer
            case Describe():
                return ServerInfo("memory", "", "per process", "noeviction")
        raise TypeError(f"no such operation: {operation!r}")

    def _consume(self, operation: Consume) -> tuple[RateLimitDecision, ...]:
        clock = self._clock()
        now_ms = clock if operation.now_ms is None else operation.now_ms
        limits = []
        for physical, rule, _ in operation.buckets:
            tally = self._entry(self._buckets, physical)
            limits.append((rule, tally.content.get(rule.slot, ()) if tally else ()))
        outcomes, steps = consume(limits, now_ms, operation.cost)
        for (physical, rule, _), step in zip(operation.buckets, steps, strict=bool(steps)):
            if step.state is None:
                continue
            found = self._buckets.get(physical)
            if found is None:
                self._make_room()
                found = Tally({}, 0)
            content = {**found.content, rule.slot: step.state}
            # No rule shortens the life of another's count.
            keep_ms = step.keep_ms + TTL_MARGIN_MS if operation.cost > 0 else 0
            self._buckets[physical] = Tally(content, max(found.expires_at, clock + keep_ms))
            self._buckets.move_to_end(physical)
        return tuple(
            decide(outcome, bucket)
            for outcome, bucket in zip(outcomes, operation.buckets, strict=True)
        )

    def _put_session(self, operation: PutSession) -> int | None:
        _, token, ttl_ms, key, value, only_if = astuple(operation)
        if key is not None:
            if (self._value(key) is not None) != (only_if == "present"):
                return None
            self._store(key, value, ttl_ms)
        entry = self._entry(self._values, operation.index)
        tokens = read_index(entry and entry.content)
        expires_at = max((entry and entry.expires_at) or 0, self._clock() + ttl_ms)
        is_new = token not in tokens
        if is_new:
            tokens.append(token)
        self._values[operation.index] = Entry(write_index(tokens), expires_at)
        return len(tokens) if is_new else 0

    def _drop_tokens(self, index: str, dropped: tuple[str, ...]) -> int:
        entry = self._entry(self._values, index)
        tokens = read_index(entry and entry.content)
        left = [token for token in tokens if token not in dropped]
        if entry and left:
            self._values[index] = entry._replace(content=write_index(left))
        else:
            self._pop(index)
        return len(tokens) - len(left)

    def _fields(self, key: str) -> Fields | None:
        tally = self._entry(self._buckets, key)
        if tally is None:
            return None
        fields = {name: " ".join(map(str, state)) for name, state in tally.content.items()}
        if "" in fields:
            fields["count"], fields["last_request"] = fields.pop("").split()
        return Fields(fields, tally.expires_at - self._clock())

    def _entry(self, entries: dict[str, E], key: str) -> E | None:
        """The live entry at ``key``; one that has expired is dropped on sight (ST-36)."""
        entry = entries.get(key)
        if entry is not None and self._expired(entry):
            del entries[key]
            return None
        return entry

    def _value(self, key: str) -> str | None:
        entry = self._entry(self._values, key)
        return None if entry is None else entry.content

    def _pop(self, key: str) -> str | None:
        value = self._value(key)
        self._values.pop(key, None)
        return value

    def _store(self, key: str, value: str, ttl_ms: int | None) -> None:
        self._make_room()
        self._values[key] = Entry(value, None if ttl_ms is None else self._clock() + ttl_ms)

    def _remove(self, key: str) -> bool:
        if self._pop(key) is not None:
            return True
        return self._entry(self._buckets, key) is not None and bool(self._buckets.pop(key))

    def _expired(self, entry: Entry | Tally) -> bool:
        return entry.expires_at is not None and entry.expires_at <= self._clock()

    def _make_room(self) -> None:
        """Sweep whenever the number of entries has doubled: a constant cost per write."""
        if len(self._values) + len(self._buckets) >= self._sweep_at:
            self._sweep()
            self._sweep_at = max(1024, 2 * (len(self._values) + len(self._buckets)))
        if len(self._buckets) >= self._max_buckets:
            # What has expired goes before what is alive, but a flood of new buckets must
            # not make each of them look through all.
            if self._clock() - self._swept_at_ms >= 1000:
                self._sweep()
            while len(self._buckets) >= self._max_buckets:
                self._buckets.popitem(last=False)

    def _sweep(self) -> None:
        self._swept_at_ms = self._clock()
        for entries in (self._values, self._buckets):
            for key in [key for key, entry in entries.items() if self._expired(entry)]:
                del entries[key]
