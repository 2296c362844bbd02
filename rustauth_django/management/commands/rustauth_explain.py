from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import CommandError

from ...connections import get_guard
from ..base import StoresCommand, whole_steps
from ..explanations import build_request, explain, find_user, read_address


def header(text: str) -> tuple[str, str]:
    """NAME:VALUE as WSGI has it, for argparse."""
    name, separator, value = text.partition(":")
    if not separator or not name.strip():
        raise ArgumentTypeError(f"{text!r} is not NAME:VALUE")
    name = name.strip().upper().replace("-", "_")
    plain = ("CONTENT_TYPE", "CONTENT_LENGTH")
    return name if name in plain else f"HTTP_{name}", value.strip()


class Command(StoresCommand):
    help = "Says which limits a request meets, why, and how they stand. Counts nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("path", metavar="PATH", help="With a query, if it matters.")
        parser.add_argument("--method", default="GET", help="GET, if it is not said.")
        parser.add_argument("--ip", metavar="ADDR", help="The client's address.")
        parser.add_argument("--user", metavar="ID", help="Who is signed in, by primary key.")
        parser.add_argument(
            "--header",
            type=header,
            action="append",
            default=[],
            metavar="NAME:VALUE",
            help="A header of the request; as often as needed.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        guard = get_guard()
        meta = {"REMOTE_ADDR": "127.0.0.1"}
        if options["ip"] is not None:
            # Where it is believed: the peer is then a proxy of the site's.
            names = guard.options.visitors.addresses.headers
            meta[names[0] if names else "REMOTE_ADDR"] = str(read_address(options["ip"]))
        meta |= dict(options["header"])
        user = None
        if options["user"] is not None and not (user := find_user(options["user"])):
            raise CommandError(f"There is no user with the primary key {options['user']!r}.")
        request = build_request(options["path"], options["method"].upper(), meta, user)
        for line in whole_steps(explain(guard, self.stores.backend, request)):
            self.show(line)
