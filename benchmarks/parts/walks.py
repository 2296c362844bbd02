"""Walks over a million keys, beside redis-py's SCAN loop; each in a process of its own."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.measuring import Bench, Samples, median, ratio
from benchmarks.report import Result, Table

ROOT = Path(__file__).parent.parent.parent
#: Three are enough: a walk is long.
ROUNDS = 3
#: What each is called, what the process does, and how many keys it asks for at a time: the
#: setting's default for this project's own, and all of them at once, which must not cost memory.
WALKS = {
    "scan": ("redis-py, SCAN loop", "scan", 1000),
    "list": ("rustauth_list_keys", "list", 100),
    "clear": ("rustauth_clear", "clear", 100),
    "large": ("rustauth_clear, SCAN_COUNT of a million", "clear", 1_000_000),
}
PREFIX = "rustauth:secondary:key:"
FILL = """
for number = ARGV[1], ARGV[2] do redis.call('SET', ARGV[3] .. number, 'value') end
"""
AT_ONCE = 10_000


def measure(bench: Bench) -> Result:
    samples: Samples = {walk: [] for walk in WALKS}
    grown: Samples = {walk: [] for walk in WALKS}
    for _ in range(min(bench.rounds, ROUNDS)):
        for walk, (_, action, page) in WALKS.items():
            fill(bench)
            command = [sys.executable, "-m", "benchmarks.walker", action, bench.url, str(page)]
            done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
            found = json.loads(done.stdout)
            samples[walk].append(found["seconds"])
            grown[walk].append(found["memory"])
            if action == "clear" and bench.client.dbsize():
                raise ValueError("rustauth_clear left something behind")
    rows = [
        [
            name,
            f"{median(samples, walk):.2f}",
            f"{ratio(samples, walk, 'scan').median:.2f}",
            f"{statistics.median(grown[walk]):.1f}",
        ]
        for walk, (name, *_) in WALKS.items()
    ]
    facts = {
        "list keys": ratio(samples, "list", "scan").median,
        "clear memory": max(statistics.median(grown[walk]) for walk in ("clear", "large")),
    }
    return Result(
        Table([f"{bench.keys:,} keys", "seconds", "to SCAN", "MiB more"], rows), facts=facts
    )


def fill(bench: Bench) -> None:
    """Write whatever keys are not there."""
    script = bench.client.register_script(FILL)
    for first in range(1, bench.keys + 1, AT_ONCE):
        script(args=[first, min(first + AT_ONCE - 1, bench.keys), PREFIX])
