"""Decisions on one event loop: one after the other, and by 64 tasks at once."""

import asyncio
from typing import Any

from redis import asyncio as aioredis

from benchmarks import limiters
from benchmarks.limiters.rustauth import NAME, client
from benchmarks.measuring import (
    LIMIT,
    Bench,
    Contender,
    Kind,
    Visitors,
    awaited,
    median,
    ratio,
    spread,
    take_turns,
)
from benchmarks.report import Bar, Chart, Result, Table

INCR = "redis.asyncio, INCR"
MANY = 64


def measure(bench: Bench) -> Result:
    with asyncio.Runner() as runner:
        plain = aioredis.Redis.from_url(bench.url)
        alone, at_once = (entrants(bench, runner, plain, tasks) for tasks in (1, MANY))
        samples = take_turns([*alone, *at_once], bench.rounds, bench.calls)
        runner.run(plain.aclose())
    rows, bars = [], []
    for one in alone:
        name, many = one.name, in_tasks(one.name, MANY)
        rates = spread(1e6 / micros for micros in samples[many])
        bars.append(Bar(name, rates, one.kind))
        rows.append(
            [
                name,
                f"{median(samples, name):.1f}",
                f"{ratio(samples, name, INCR).median:.2f}",
                f"{rates.median:,.0f}",
                f"{rates.low:,.0f} to {rates.high:,.0f}",
                f"{ratio(samples, in_tasks(INCR, MANY), many).median:.2f}",
            ]
        )
    columns = [
        *("", "us, 1 task", "to INCR"),
        *(f"calls a second, {MANY} tasks", "quartiles", "throughput to INCR's"),
    ]
    chart = Chart(
        "tasks", f"{MANY} tasks on one event loop", "decisions a second; more is better", bars
    )
    ours = f"{NAME}, fixed-window"
    facts = {"1 task": ratio(samples, ours, INCR).median}
    peers = [in_tasks(one.name, MANY) for one in alone if one.name.startswith("throttled-py")]
    if peers:
        fastest = min(peers, key=lambda name: median(samples, name))
        facts["64 tasks"] = ratio(samples, fastest, in_tasks(ours, MANY)).median
    return Result(Table(columns, rows), [chart], facts)


def in_tasks(name: str, tasks: int) -> str:
    return name if tasks == 1 else f"{name}, {tasks} tasks"


def entrants(
    bench: Bench, runner: asyncio.Runner, plain: "aioredis.Redis", tasks: int
) -> list[Contender]:
    async def incr(_: Any) -> bool:
        return bool(await plain.incr("plain"))

    found = [awaited(in_tasks(INCR, tasks), incr, Visitors(client), runner, tasks, "floor")]
    for module, limiter in limiters.load().items():
        kind: Kind = "ours" if module == limiters.OURS else "peer"
        for algorithm, check in limiter.async_checks(bench.url, LIMIT).items():
            name = in_tasks(f"{limiter.NAME}, {algorithm}", tasks)
            found.append(awaited(name, check, Visitors(limiter.client), runner, tasks, kind))
    return found
