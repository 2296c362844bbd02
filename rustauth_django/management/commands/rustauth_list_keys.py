import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

from ..base import StoresCommand, count, whole_steps


class Command(StoresCommand):
    help = (
        "Lists the keys of secondary storage as they are found, in no order. A key may be a"
        " secret: session tokens are part of theirs."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--match",
            metavar="GLOB",
            help='Only keys like this, for example "session:*"; "[[]" stands for "[".',
        )
        parser.add_argument(
            "--ttl",
            action="store_true",
            help="Also the seconds that each key has left; - if it does not expire.",
        )
        parser.add_argument("--format", choices=["text", "json"], default="text")
        parser.add_argument("--limit", type=count, metavar="N", help="At most this many keys.")

    def handle(self, *args: Any, **options: Any) -> None:
        keys: Iterable[str] = self.keys(options["match"])
        if options["limit"] is not None:
            keys = islice(keys, max(0, min(int(options["limit"]), sys.maxsize)))
        found = (
            {"key": key, "ttl": self.ttl(key)} if options["ttl"] else {"key": key} for key in keys
        )
        if options["format"] == "json":
            self.write_json(found)
        else:
            for item in found:
                self.show(*item.values())

    def keys(self, match: str | None) -> Iterator[str]:
        keys = whole_steps(self.stores.secondary_storage.iter_keys())
        return (key for key in keys if match is None or fnmatchcase(key, match))

    def ttl(self, key: str) -> int | None:
        return self.stores.secondary_storage.ttl(key)
