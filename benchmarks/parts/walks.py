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
#: What each is called, what the process does, how many keys it asks for at a time, and the walk to
#: compare it with: a SCAN loop with the same page. 100 is the setting's default; a million at once
#: must not cost memory.
WALKS = {
    "scan": ("redis-py, SCAN loop, 100 keys a page", "scan", 100, "scan"),
    "list": ("rustauth_list_keys, 100 keys a page", "list", 100, "scan"),
    "clear": ("rustauth_clear, 100 keys a page", "clear", 100, "scan"),
    "scan long": ("redis-py, SCAN loop, 1,000 keys a page", "scan", 1000, "scan long"),
    "list long": ("rustauth_list_keys, 1,000 keys a page", "list", 1000, "scan long"),
    "clear long": ("rustauth_clear, SCAN_COUNT of a million", "clear", 1_000_000, "scan long"),
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
        for walk, (_, action, page, _) in WALKS.items():
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
            f"{ratio(samples, walk, bare).median:.2f}",
            f"{statistics.median(grown[walk]):.1f}",
        ]
        for walk, (name, _, _, bare) in WALKS.items()
    ]
    facts = {
        "list keys": ratio(samples, "list", "scan").median,
        "clear memory": max(statistics.median(grown[walk]) for walk in ("clear", "clear long")),
    }
    return Result(
        Table([f"{bench.keys:,} keys", "seconds", "to SCAN", "MiB more"], rows), facts=facts
    )


def fill(bench: Bench) -> None:
    """Write whatever keys are not there."""
    script = bench.client.register_script(FILL)
    for first in range(1, bench.keys + 1, AT_ONCE):
        script(args=[first, min(first + AT_ONCE - 1, bench.keys), PREFIX])
