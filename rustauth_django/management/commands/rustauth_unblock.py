from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from ...attempts import accounts_of
from ...audit import record_unlocked
from ...connections import get_guard
from ...limits.clients import normalize_address
from ...limits.keys import LOGIN, account_digest, account_key, user_key
from ...limits.standings import walk
from ..base import StoresCommand, find_user, read_address, whole_steps


class Command(StoresCommand):
    help = "Forgets what a client has spent of its rate limits, and says what was freed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        whose = parser.add_mutually_exclusive_group(required=True)
        whose.add_argument(
            "keys", nargs="*", default=[], metavar="KEY", help="As rustauth_limits lists them."
        )
        whose.add_argument("--ip", metavar="ADDR", help="All buckets of an address.")
        whose.add_argument(
            "--user",
            metavar="USER",
            help="All buckets of a user, by primary key, user name or e-mail address.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        visitors = get_guard().options.visitors
        keys, parts, whose = options["keys"], set[str](), "the given keys"
        if options["ip"] is not None:
            address = read_address(options["ip"])
            whose = normalize_address(address, visitors.addresses.ipv6_subnet)
            parts = {whose}
        elif options["user"] is not None:
            user = find_user(options["user"], may_be_deleted=True)
            pk = user.pk if user else options["user"].removeprefix("pk=")
            whose, parts = f"user {pk}", {user_key(pk)}
            if user:
                account = account_digest(user, visitors)
                keys = sorted(account_key(one) for one in accounts_of(user, get_guard()))
                parts |= {f"device:{account}", f"pair:{account}"}
        total = 0
        for key in whole_steps(self.free(chain(keys, self.keys_of(parts)))):
            if key is not None:
                total += 1
                self.show(key)
                if key.endswith(f"|{LOGIN}"):
                    record_unlocked(key)
        if total:
            self.show(f"Freed {total:,} bucket{'' if total == 1 else 's'} of {whose}.")
        else:
            self.show(f"Nothing to free: there is no bucket of {whose}.")

    def keys_of(self, parts: set[str]) -> Iterator[str | None]:
        """Each key with one of these parts; None for each other key."""
        if parts:
            for found in walk(self.stores.backend, self.stores.rate_limit_store):
                yield found[1] if found and not parts.isdisjoint(found[1].split("|")) else None

    def free(self, keys: Iterable[str | None]) -> Iterator[str | None]:
        """Each key that was removed; None for each other key."""
        store = self.stores.rate_limit_store
        for key in keys:
            yield key if key is not None and store.reset(key) else None
