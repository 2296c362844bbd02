"""Eight processes that spend one bucket together."""

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any

import redis

from benchmarks import limiters, site
from benchmarks.measuring import Bench, Kind, Samples, ratio, spread
from benchmarks.report import Bar, Chart, Result, Table

PROCESSES = 8
#: Five are enough: in each, a contender has eight times the calls that it has elsewhere.
ROUNDS = 5
INCR = "redis-py, INCR"
PATIENCE = 60  # seconds

Entrant = tuple[str, str]


class Worker:
    """What each process has: its connections, and the barrier at which all of them start."""

    here: "Worker"

    def __init__(self, url: str, limit: int, barrier: Barrier) -> None:
        site.configure(url)
        self.barrier = barrier
        self.checks: dict[Entrant, tuple[Callable[[Any], bool], Any]] = {}
        for module, limiter in limiters.load().items():
            for algorithm, check in limiter.checks(url, limit).items():
                self.checks[module, algorithm] = check, limiter.client
        client = redis.Redis.from_url(url)
        self.checks["", INCR] = lambda key: client.incr(key) <= limit, lambda number: f"n{number}"

    @classmethod
    def begin(cls, *arguments: Any) -> None:
        cls.here = cls(*arguments)


def spend(entrant: Entrant, number: int, calls: int) -> tuple[int, float, float]:
    """How many of these calls were permitted, and when they began and ended."""
    worker = Worker.here
    check, make = worker.checks[entrant]
    client = make(number)
    worker.barrier.wait(PATIENCE)
    started = time.monotonic()
    passed = sum(check(client) for _ in range(calls))
    return passed, started, time.monotonic()


def measure(bench: Bench) -> Result:
    limit = min(bench.calls, 1000)  # of which an eighth of the calls are permitted
    context = multiprocessing.get_context("spawn")
    arguments = (bench.url, limit, context.Barrier(PROCESSES))
    entrants: dict[Entrant, str] = {("", INCR): INCR}
    for module, limiter in limiters.load().items():
        for algorithm in limiter.checks(bench.url, limit):
            entrants[module, algorithm] = f"{limiter.NAME}, {algorithm}"
    samples: Samples = {name: [] for name in entrants.values()}
    permitted: dict[str, list[int]] = {name: [] for name in entrants.values()}
    with context.Pool(PROCESSES, Worker.begin, arguments) as pool:
        for number in range(1 + min(bench.rounds, ROUNDS)):
            calls = bench.calls if number else 1  # the first only connects
            for entrant, name in entrants.items():
                bench.client.flushall()  # limits' strategies would share a key
                jobs = [(entrant, number, calls)] * PROCESSES
                # One for each of them: all wait at the barrier.
                passed, began, ended = zip(*pool.starmap(spend, jobs, chunksize=1), strict=True)
                if number:
                    seconds = max(ended) - min(began)
                    samples[name].append(seconds / (PROCESSES * calls) * 1e6)
                    permitted[name].append(sum(passed))
    rows, bars = [], []
    for entrant, name in entrants.items():
        rates = spread(1e6 / micros for micros in samples[name])
        found = sorted(set(permitted[name]))
        kind: Kind = {"": "floor", limiters.OURS: "ours"}.get(entrant[0], "peer")
        bars.append(Bar(name, rates, kind))
        rows.append(
            [
                name,
                f"{rates.median:,.0f}",
                f"{rates.low:,.0f} to {rates.high:,.0f}",
                f"{ratio(samples, INCR, name).median:.2f}",
                f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}",
            ]
        )
    columns = ["", "calls a second", "quartiles", "to INCR", f"let through, {limit:,} allowed"]
    title = f"{PROCESSES} processes on one bucket"
    chart = Chart("processes", title, "calls a second, of all of them; more is better", bars)
    # GCRA gives a place back every few seconds, so that its number depends on how long it takes.
    exact = [
        abs(count - limit)
        for (module, algorithm), name in entrants.items()
        if module == limiters.OURS and algorithm != "gcra"
        for count in permitted[name]
    ]
    return Result(Table(columns, rows), [chart], {"inexact": max(exact)})
