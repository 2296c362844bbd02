"""One decision at a time, in one thread."""

from collections.abc import Callable
from functools import partial
from typing import Any

import hiredis
from django.apps import apps

from benchmarks import limiters
from benchmarks.limiters.rustauth import NAME, client, fill_all, fill_half, open_stores, rules
from benchmarks.measuring import (
    LIMIT,
    WINDOW,
    Bench,
    Contender,
    Copies,
    Kind,
    Visitors,
    median,
    ratio,
    repeating,
    take_turns,
    visited,
)
from benchmarks.report import Bar, Chart, Result, Table
from benchmarks.wire import SMALLEST, Wire
from rustauth_django import RateLimitRule, RateLimitStore, SecondaryStorage

INCR = "redis-py, INCR"


def measure(bench: Bench) -> Result:
    with open_stores(bench.url) as stores, Wire(bench.url) as wire:
        store = stores.rate_limit_store
        contenders = [
            *floor(bench, wire),
            *algorithms(bench),
            *logs(bench, store),
            *several(store),
            *refusals(store),
            *storage(stores.secondary_storage),
        ]
        samples = take_turns(contenders, bench.rounds, bench.calls)
    ratios = {one.name: ratio(samples, one.name, INCR) for one in contenders}
    rows = [
        [
            name,
            f"{median(samples, name):.1f}",
            f"{found.median:.2f}",
            str(found),
        ]
        for name, found in ratios.items()
    ]
    bars = [Bar(one.name, ratios[one.name], one.kind) for one in contenders]
    constant = [f"{NAME}, {name}" for name in rules(LIMIT) if name != "sliding-log"]
    axis = "times redis-py's INCR; less is better"
    return Result(
        Table(["", "us", "to INCR", "quartiles"], rows),
        [Chart("decisions", "One decision, in one thread", axis, bars, INCR)],
        {
            "decision": max(ratios[name].median for name in constant),
            "log": max(found.median for name, found in ratios.items() if "log of" in name),
            "two limits": ratio(samples, f"{NAME}, 2 limits", f"{NAME}, fixed-window").median,
            "local refusal": ratios[f"{NAME}, refusal from memory"].median,
        },
    )


def floor(bench: Bench, wire: Wire) -> list[Contender]:
    """The bare client, and what is below it."""
    sha = bench.client.script_load(SMALLEST)
    incr = hiredis.pack_command(("INCR", "plain"))
    script = hiredis.pack_command(("EVALSHA", sha, 1, "counted", WINDOW * 1000))
    redis_py = {
        INCR: partial(bench.client.incr, "plain"),
        "redis-py, GET": partial(bench.client.get, "plain"),
        "redis-py, SET": partial(bench.client.set, "value", "value", WINDOW),
        "raw socket, INCR": partial(wire.ask, incr),
        "raw socket, the smallest script": partial(wire.ask, script),
    }
    return [Contender(name, repeating(call), kind="floor") for name, call in redis_py.items()]


def algorithms(bench: Bench) -> list[Contender]:
    """Each algorithm of each limiter, for clients that stay below their limit."""
    found = []
    for module, limiter in limiters.load().items():
        kind: Kind = "ours" if module == limiters.OURS else "peer"
        for algorithm, check in limiter.checks(bench.url, LIMIT).items():
            name = f"{limiter.NAME}, {algorithm}"
            found.append(visited(name, check, Visitors(limiter.client), kind))
    return found


def logs(bench: Bench, store: RateLimitStore) -> list[Contender]:
    """The exact algorithm: one request to each of many logs, which are all in one state."""
    found = []
    for limit in (100, 1000):
        rule = RateLimitRule(WINDOW, limit, "sliding-log")
        states: dict[str, Visitors | Copies] = {"empty": Visitors(client, each=1)}
        for state, fill in {"half full": fill_half, "full": fill_all}.items():
            template = f"log-of-{limit}-{state.replace(' ', '-')}"
            fill(store, template, rule)
            states[state] = Copies(bench.client, template)
        for state, visitors in states.items():
            name = f"{NAME}, log of {limit:,}, {state}"
            found.append(visited(name, permits(store, rule), visitors))
    return found


def permits(store: RateLimitStore, rule: RateLimitRule) -> Callable[[str], bool]:
    return lambda key: store.consume(key, rule).permitted


def several(store: RateLimitStore) -> list[Contender]:
    """All or nothing."""
    minute, hour, day = (
        RateLimitRule(seconds, LIMIT, "fixed-window") for seconds in (60, WINDOW, 86_400)
    )
    written = RateLimitRule.parse_all(f"{LIMIT}/h; 1000/d")

    def check(limits: Any) -> Any:
        return lambda one: store.consume_all(limits(one)).permitted

    return [
        visited(f"{NAME}, {name}", check(limits), Visitors(client))
        for name, limits in {
            "2 limits": lambda one: [(one, minute), (one, hour)],
            "3 limits, 2 keys": lambda one: [(one, minute), (one, hour), (f"user:{one}", day)],
            f'"{LIMIT}/h; 1000/d"': lambda one: [(one, rule) for rule in written],
        }.items()
    ]


def storage(storage: SecondaryStorage) -> list[Contender]:
    """What is stored for anything but limits."""
    calls = {
        "get": partial(storage.get, "key"),
        "set": partial(storage.set, "key", "value", WINDOW),
    }
    return [Contender(f"{NAME}, storage {name}", repeating(call)) for name, call in calls.items()]


def refusals(store: RateLimitStore) -> list[Contender]:
    """By the server, and from this process's memory (LOCAL_REFUSALS)."""
    rule = RateLimitRule(WINDOW, 1, "fixed-window")
    remembering = apps.get_app_config("rustauth_django").rate_limit_store
    store.consume("refused", rule)

    def refused(store: RateLimitStore) -> Any:
        def call() -> None:
            if store.consume("refused", rule).permitted:
                raise AssertionError("there was nothing to refuse")

        return repeating(call)

    return [
        Contender(f"{NAME}, refusal by the server", refused(store)),
        Contender(f"{NAME}, refusal from memory", refused(remembering)),
    ]
