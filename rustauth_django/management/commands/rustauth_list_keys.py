import re
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from ...engine.keyspace import pages
from ..base import StoresCommand, count, whole_steps

# What is before a secret in a key, but for the index of a user's sessions.
SECRET = re.compile(r"(session:(?!user:)|verification:)(.{0,4}).*", re.DOTALL)


def mask(key: str) -> str:
    """A key with no more of its secret than its first four characters."""
    return SECRET.sub(r"\1\2***", key) if SECRET.fullmatch(key) else key


class Command(StoresCommand):
    help = (
        "Lists the keys of secondary storage as they are found, in no order. The tokens of"
        " sessions and the names of one-time tokens are masked."
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
        parser.add_argument(
            "--show-tokens", action="store_true", help="Mask nothing: the output has secrets."
        )
        parser.add_argument("--format", choices=["text", "json"], default="text")
        parser.add_argument("--limit", type=count, metavar="N", help="At most this many keys.")

    def handle(self, *args: Any, **options: Any) -> None:
        storage = self.stores.secondary_storage
        limit = None if options["limit"] is None else int(options["limit"])
        found = self.pages(options["match"], limit)
        shown = str if options["show_tokens"] else mask
        if options["format"] == "json":
            keys = (key for page in found for key in page)
            with_ttl = options["ttl"]
            self.write_json(
                {"key": shown(key), "ttl": storage.ttl(key)} if with_ttl else {"key": shown(key)}
                for key in keys
            )
            return
        for page in found:
            if options["ttl"]:
                for key in page:
                    self.show(shown(key), storage.ttl(key))
            elif page:
                self.show_lines(list(map(shown, page)))

    def pages(self, match: str | None, limit: int | None) -> Iterator[list[str]]:
        """The keys to list, page by page."""
        storage, left = self.stores.secondary_storage, sys.maxsize if limit is None else limit
        logical = storage.keyspace.logical_page
        for page in whole_steps(pages(storage.backend, storage.first_pages())):
            keys = logical(page)
            meant = keys if match is None else [key for key in keys if fnmatchcase(key, match)]
            meant = meant[:left]
            yield meant
            left -= len(meant)
            if left <= 0:
                return
