"""Contenders take turns on one server; medians and ratios of what each turn took."""

import asyncio
import math
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice, repeat
from typing import Any, Literal

import redis

#: Each client may make so many requests an hour, and makes half of them.
LIMIT = 100
WINDOW = 3600
#: This project's connections wait for half a second by default. A machine that is busy with other
#: things should not end the bench.
PATIENT = {"socket_timeout": 20, "socket_connect_timeout": 20}
#: Calls that nobody times: they load scripts, and open a connection for each of 64 tasks.
WARM_UP = 64

Kind = Literal["ours", "peer", "floor"]
Samples = dict[str, list[float]]


@dataclass(frozen=True)
class Bench:
    """One run: the server, and how much is measured."""

    url: str
    client: redis.Redis
    rounds: int
    calls: int  # of each contender in each round
    keys: int  # that the walks meet


@dataclass(frozen=True)
class Contender:
    """``run(n)`` makes n calls; ``prepare(n)`` comes before each turn and is not timed."""

    name: str
    run: Callable[[int], object]
    prepare: Callable[[int], object] = lambda n: None
    kind: Kind = "ours"


@dataclass(frozen=True)
class Spread:
    """The median of several rounds, and the quartiles around it."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.2f} to {self.high:.2f}"


def take_turns(contenders: Sequence[Contender], rounds: int, calls: int) -> Samples:
    """Microseconds per call of each contender, one number for each round.

    Everybody has a turn in every round, so that a machine that slows down slows all of them.
    """
    samples: Samples = {one.name: [] for one in contenders}
    for one in contenders:
        _turn(one, max(WARM_UP, calls // 10))
    for _ in range(rounds):
        for one in contenders:
            samples[one.name].append(_turn(one, calls))
    return samples


def _turn(contender: Contender, calls: int) -> float:
    contender.prepare(calls)
    started = time.perf_counter()
    contender.run(calls)
    return (time.perf_counter() - started) / calls * 1e6


def repeating(call: Callable[[], object]) -> Callable[[int], None]:
    """The same call, n times."""

    def run(calls: int) -> None:
        for _ in repeat(None, calls):
            call()

    return run


class Refused(Exception):
    """A contender refused what it should have let through."""


class Visitors:
    """The requests of one turn: each client makes so many of them, one after the other.

    No client comes back in another turn, so that every turn finds the same state.
    """

    _numbers = count()

    def __init__(self, make: Callable[[int], Any], each: int = LIMIT // 2) -> None:
        self._make, self._each = make, each
        self.requests: list[Any] = []

    def prepare(self, calls: int) -> None:
        clients = islice(self._numbers, math.ceil(calls / self._each))
        made = (self._make(client) for client in clients for _ in range(self._each))
        self.requests = list(islice(made, calls))


class Copies:
    """Requests to many buckets in one state: each turn starts with copies of ``template``."""

    def __init__(self, client: redis.Redis, template: str) -> None:
        self._client, self._template = client, template
        #: Whatever keys the bucket has on the server.
        self._keys = list(client.scan_iter(match=f"*{template}*", count=1000))
        if not self._keys:
            raise ValueError(f"nothing is kept for {template!r}")
        self.requests: list[str] = []

    def prepare(self, calls: int) -> None:
        self.requests = [f"{self._template}:{number}" for number in range(calls)]
        original = self._template.encode()
        pipeline = self._client.pipeline(transaction=False)
        for key in self._keys:
            for name in self.requests:
                pipeline.copy(key, key.replace(original, name.encode()), replace=True)
        if not all(pipeline.execute()):
            raise ValueError(f"{self._template!r} is gone")


def visited(
    name: str, check: Callable[[Any], bool], visitors: Visitors | Copies, kind: Kind = "ours"
) -> Contender:
    """A limiter that decides on the requests of ``visitors``, and lets all of them through."""

    def run(calls: int) -> None:
        for client in visitors.requests:
            if not check(client):
                raise Refused(name)

    return Contender(name, run, visitors.prepare, kind)


def awaited(
    name: str,
    check: Callable[[Any], Awaitable[object]],
    visitors: Visitors,
    runner: asyncio.Runner,
    tasks: int = 1,
    kind: Kind = "ours",
) -> Contender:
    """The same for coroutine functions: so many tasks share the requests of a turn."""

    async def work(requests: Iterator[Any]) -> None:
        for client in requests:
            if not await check(client):
                raise Refused(name)

    async def run() -> None:
        requests = iter(visitors.requests)
        await asyncio.gather(*(work(requests) for _ in range(tasks)))

    return Contender(name, lambda calls: runner.run(run()), visitors.prepare, kind)


def address(number: int) -> str:
    """The address of client ``number``."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def spread(values: Iterable[float]) -> Spread:
    values = list(values)
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratio(samples: Samples, name: str, to: str) -> Spread:
    """Of ``name`` to another contender, round by round."""
    return spread(ours / other for ours, other in zip(samples[name], samples[to], strict=True))


def median(samples: Samples, name: str) -> float:
    return statistics.median(samples[name])
