from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from ...engine.keyspace import clear_pages, pages
from ..base import StoresCommand


class Command(StoresCommand):
    help = (
        "Removes everything from secondary storage: signed-in users are signed out and"
        " tokens stop working. Rate limits stay; --rate-limits removes those instead."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--rate-limits",
            action="store_true",
            help="Remove rate limits, and nothing else.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Count, and remove nothing.")
        parser.add_argument(
            "--no-input",
            "--noinput",
            action="store_false",
            dest="interactive",
            help="Do not ask first.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        stores = self.stores
        if options["rate_limits"]:
            firsts, what = stores.rate_limit_store.first_pages(), "rate limit"
        else:
            firsts, what = stores.secondary_storage.first_pages(), "stored value"
        roots = " and ".join(repr(first.prefix) for first in firsts)
        where = f"under {roots} at {stores.backend.location}"
        if options["dry_run"]:
            verb = "Would remove"
            found = (len(page) for page in pages(stores.backend, firsts))
            total = self.total("Found", found)
        else:
            if options["interactive"]:
                self.confirm(f"all {what}s {where}")
            verb = "Removed"
            total = self.total(verb, clear_pages(stores.backend, firsts))
            if not options["rate_limits"]:
                beside = stores.secondary_storage.first_pages_of_django()
                self.total(verb, clear_pages(stores.backend, beside))
        self.stdout.write(f"{verb} {total:,} {what}{'' if total == 1 else 's'} {where}.")

    def confirm(self, what: str) -> None:
        try:
            answer = input(f"This removes {what}.\nType 'yes' to go on, anything else to cancel: ")
        except (EOFError, KeyboardInterrupt, RuntimeError):  # RuntimeError: there is no stdin
            answer = ""
            self.stdout.write("")
        if answer != "yes":
            raise CommandError("Cancelled; nothing was removed.")
