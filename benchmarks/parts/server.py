"""The server's time for a decision, beside a script that makes the same calls and nothing else.

What a script calls is read from MONITOR as it decides once. The bare script makes these calls with
the very same arguments. The server counts the time of both (INFO commandstats), call by call.
"""

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hiredis

from benchmarks import limiters
from benchmarks.limiters.rustauth import NAME, fill_all, fill_half, open_stores
from benchmarks.measuring import (
    LIMIT,
    WINDOW,
    Bench,
    Copies,
    Kind,
    Refused,
    Samples,
    median,
    ratio,
    spread,
)
from benchmarks.report import Bar, Chart, Result, Table
from benchmarks.wire import Wire
from rustauth_django import RateLimitRule, RateLimitStore

#: Those that count by a string, as the templates of ``Copies`` are.
MODULES = ("rustauth", "throttled_py", "limits")
BARE = ", the same calls alone"
MARK = "the decision is over"

Check = Callable[[str], bool]


@dataclass(frozen=True)
class Script:
    """One decision, as the server saw it."""

    keys: list[bytes]
    calls: list[list[bytes]]

    def bare(self) -> str:
        """The same calls in Lua, with the same arguments."""
        return "\n".join(f"redis.call({', '.join(map(self._lua, call))})" for call in self.calls)

    def _lua(self, argument: bytes) -> str:
        if argument in self.keys:
            return f"KEYS[{self.keys.index(argument) + 1}]"
        return '"' + "".join(f"\\{byte:03d}" for byte in argument) + '"'


@dataclass(frozen=True)
class Decision:
    """A limiter, and many buckets that it can decide on in one state."""

    name: str
    check: Check
    buckets: Copies
    kind: Kind


def measure(bench: Bench) -> Result:
    with open_stores(bench.url) as stores:
        decisions = [*algorithms(bench), *others(bench, stores.rate_limit_store)]
        watched = [(one, script) for one in decisions if (script := watch(bench, one))]
        samples: Samples = {}
        for _ in range(bench.rounds):
            for one, script in watched:
                samples.setdefault(one.name, []).append(decided(bench, one))
                samples.setdefault(one.name + BARE, []).append(called(bench, one, script))
    rows, bars, ours = [], [], []
    for one, script in watched:
        found = ratio(samples, one.name, one.name + BARE)
        bars.append(Bar(one.name, spread(samples[one.name]), one.kind))
        bars.append(Bar(BARE.removeprefix(", "), spread(samples[one.name + BARE]), "floor"))
        if one.kind == "ours":
            ours.append(found.median)
        rows.append(
            [
                one.name,
                str(len(script.calls)),
                f"{median(samples, one.name):.1f}",
                f"{median(samples, one.name + BARE):.1f}",
                f"{found.median:.2f}",
                str(found),
            ]
        )
    columns = ["", "calls", "us on the server", "us for the calls alone", "ratio", "quartiles"]
    title = "The server's time for a decision"
    return Result(
        Table(columns, rows),
        [Chart("server", title, "microseconds; less is better", bars)],
        {"server": max(ours)},
    )


def algorithms(bench: Bench) -> list[Decision]:
    """Every algorithm that is a script, on buckets that are half full."""
    found = []
    for module, limiter in limiters.load().items():
        if module not in MODULES:
            continue
        for algorithm, check in limiter.checks(bench.url, LIMIT).items():
            template = f"{module}-{algorithm.replace(' ', '-')}"
            for _ in range(LIMIT // 2):
                check(template)
            kind: Kind = "ours" if module == limiters.OURS else "peer"
            buckets = Copies(bench.client, template)
            found.append(Decision(f"{limiter.NAME}, {algorithm}", check, buckets, kind))
    return found


def others(bench: Bench, store: RateLimitStore) -> list[Decision]:
    """This project's log in more states, and two limits at once."""
    found = []
    for limit, state, fill in ((100, "full", fill_all), (1000, "half full", fill_half)):
        rule = RateLimitRule(WINDOW, limit, "sliding-log")
        template = f"log-of-{limit}-entries"
        fill(store, template, rule)
        check = check_all(store, [rule])
        buckets = Copies(bench.client, template)
        found.append(Decision(f"{NAME}, log of {limit:,}, {state}", check, buckets, "ours"))
    two = [RateLimitRule(seconds, LIMIT, "fixed-window") for seconds in (60, WINDOW)]
    check = check_all(store, two)
    for _ in range(LIMIT // 2):
        check("two-limits")
    two_limits = Decision(f"{NAME}, 2 limits", check, Copies(bench.client, "two-limits"), "ours")
    return [*found, two_limits]


def check_all(store: RateLimitStore, rules: list[RateLimitRule]) -> Check:
    return lambda key: store.consume_all([(key, rule) for rule in rules]).permitted


def watch(bench: Bench, decision: Decision) -> Script | None:
    """What one decision calls; None if no script takes it."""
    decision.buckets.prepare(1)
    (bucket,) = decision.buckets.requests
    with Wire(bench.url) as monitor:
        monitor.ask(hiredis.pack_command(("MONITOR",)))
        decision.check(bucket)
        bench.client.echo(MARK)
        lines = []
        while MARK.encode() not in (line := monitor.read()):
            lines.append(line.decode())
    commands = [(" lua]" in line.partition('"')[0], arguments(line)) for line in lines]
    scripts = [words for is_inside, words in commands if words[0].upper() in (b"EVALSHA", b"EVAL")]
    if not scripts:
        return None
    keys = scripts[0][3 : 3 + int(scripts[0][2])]
    return Script(keys, [words for is_inside, words in commands if is_inside])


def arguments(line: str) -> list[bytes]:
    r"""The words of a line of MONITOR, which quotes them with \n, \" and \x00."""
    quoted = re.findall(r'"(?:[^"\\]|\\.)*"', line)
    return [ast.literal_eval(f"b{word}") for word in quoted]


def decided(bench: Bench, decision: Decision) -> float:
    decision.buckets.prepare(bench.calls)
    bench.client.config_resetstat()
    for bucket in decision.buckets.requests:
        if not decision.check(bucket):
            raise Refused(decision.name)
    return per_call(bench)


def called(bench: Bench, decision: Decision, script: Script) -> float:
    decision.buckets.prepare(bench.calls)
    first = decision.buckets.requests[0].encode()
    sha = bench.client.script_load(script.bare())
    bench.client.config_resetstat()
    for bucket in decision.buckets.requests:
        keys: list[Any] = [key.replace(first, bucket.encode()) for key in script.keys]
        bench.client.evalsha(sha, len(keys), *keys)
    return per_call(bench)


def per_call(bench: Bench) -> float:
    """Microseconds for each call of a script since the statistics were reset."""
    stats = bench.client.info("commandstats")
    scripts = [stats[name] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats]
    return sum(one["usec"] for one in scripts) / sum(one["calls"] for one in scripts)
