from argparse import ArgumentParser
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import partial
from heapq import nlargest
from operator import attrgetter
from typing import Any

from ...connections import get_guard
from ...limits.standings import Standing, rule_in_force, standings
from ..base import StoresCommand, count, whole_steps


class Command(StoresCommand):
    help = (
        "Lists the buckets of rate limits as they are found: key, used/limit, seconds left, rule."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--match",
            metavar="GLOB",
            help='Only keys like this, for example "192.0.2.1|*"; "[[]" stands for "[".',
        )
        parser.add_argument(
            "--refused",
            action="store_true",
            help="Only those whose next request is known to be refused.",
        )
        parser.add_argument("--top", type=count, metavar="N", help="Only the N fullest, in order.")
        parser.add_argument("--format", choices=["text", "json"], default="text")

    def handle(self, *args: Any, **options: Any) -> None:
        match = options["match"]
        found = standings(
            self.stores.backend,
            self.stores.rate_limit_store,
            lambda key: match is None or fnmatchcase(key, match),
            partial(rule_in_force, get_guard().options),
        )
        items: Iterable[Standing] = (
            item
            for items in whole_steps(found)
            for item in items
            if item.refused or not options["refused"]
        )
        if options["top"] is not None:
            items = nlargest(int(options["top"]), items, key=attrgetter("fullness"))
        if options["format"] == "json":
            self.write_json(map(as_json, items))
            return
        for item in items:
            used = "-" if item.used is None else item.used
            limit = "-" if item.limit is None else item.limit
            self.show(item.key, f"{used}/{limit}", item.seconds_left, item.rule)


def as_json(item: Standing) -> dict[str, Any]:
    return {
        "key": item.key,
        "used": item.used,
        "limit": item.limit,
        "seconds_left": item.seconds_left,
        "refused": item.refused,
        "rule": item.rule and str(item.rule),
    }
