import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

from ..base import StoresCommand, printable, whole_steps


def count(text: str) -> int:
    """A number of keys, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a number above zero")
    return int(text)


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
        with_ttl = options["ttl"]
        found = ((key, self.ttl(key) if with_ttl else None) for key in keys)
        if options["format"] == "json":
            self.write_json(found, with_ttl=with_ttl)
        else:
            encoding = getattr(self.stdout, "encoding", None)
            for key, ttl in found:
                left = f"\t{'-' if ttl is None else ttl}" if with_ttl else ""
                self.stdout.write(f"{printable(key, encoding)}{left}")

    def keys(self, match: str | None) -> Iterator[str]:
        keys = whole_steps(self.stores.secondary_storage.iter_keys())
        return (key for key in keys if match is None or fnmatchcase(key, match))

    def ttl(self, key: str) -> int | None:
        return self.stores.secondary_storage.ttl(key)

    def write_json(self, found: Iterator[tuple[str, int | None]], *, with_ttl: bool) -> None:
        """One array, written as it is found: however many keys there are."""
        separator = "["
        for key, ttl in found:
            item = {"key": key, "ttl": ttl} if with_ttl else {"key": key}
            self.stdout.write(f"{separator}\n  {json.dumps(item)}", ending="")
            separator = ","
        self.stdout.write("[]" if separator == "[" else "\n]")
