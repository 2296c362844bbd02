"""Bytes that the server keeps: for each bucket of a limit of 100, and for each session."""

from benchmarks import limiters
from benchmarks.measuring import LIMIT, Bench, Kind, Spread
from benchmarks.report import Bar, Chart, Result, Table

from .sessions import ENGINES, SESSIONS, begin

COUNTS = (1, LIMIT // 2, LIMIT)


def measure(bench: Bench) -> Result:
    rows, bars = [], []
    for module, limiter in limiters.load().items():
        kind: Kind = "ours" if module == limiters.OURS else "peer"
        for algorithm, check in limiter.checks(bench.url, LIMIT).items():
            name, sizes = f"{limiter.NAME}, {algorithm}", []
            for requests in COUNTS:
                bench.client.flushall()
                for _ in range(requests):
                    check(limiter.client(1))
                sizes.append(kept(bench))
            rows.append([name, *(f"{size:,}" for size in sizes)])
            bars.append(Bar(name, Spread(sizes[-1], sizes[-1], sizes[-1]), kind))
    for who, data in SESSIONS.items():
        for engine, (store, _) in ENGINES.items():
            bench.client.flushall()
            begin(store, data)
            rows.append([f"a session of {who}, {engine}", f"{kept(bench):,}", "", ""])
    columns = ["", *(f"bytes, {count} request{'' if count == 1 else 's'}" for count in COUNTS)]
    title = f"A bucket after {LIMIT} requests"
    return Result(
        Table(columns, rows), [Chart("memory", title, "bytes on the server; less is better", bars)]
    )


def kept(bench: Bench) -> int:
    """All that is on the server, which was empty before."""
    client = bench.client
    return sum(client.memory_usage(key, samples=0) for key in client.scan_iter(count=1000))
