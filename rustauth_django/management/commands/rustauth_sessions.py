from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from typing import Any

from ... import audit
from ...engine.keyspace import pages
from ...engine.operations import GetMany, Unlink
from ...engine.plans import drive
from ...engine.records import write_time
from ...sessions import revoke_sessions, user_sessions
from ...sessions.agents import describe_agent
from ...sessions.index import parse
from ...sessions.records import SessionRecord
from ..base import StoresCommand, find_user, whole_steps


class Command(StoresCommand):
    help = (
        "Lists login sessions as id, user, sign-in, last use, address, device; or revokes them."
        " Tokens are not shown."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=["list", "revoke"])
        whose = parser.add_mutually_exclusive_group(required=True)
        whose.add_argument("--user", metavar="ID", help="Those of a user, by primary key.")
        whose.add_argument("--all", action="store_true", help="Those of everybody.")
        parser.add_argument("--format", choices=["text", "json"], default="text")

    def handle(self, *args: Any, **options: Any) -> None:
        user_id = options["user"]
        if options["action"] == "list":
            self.list(self.of_user(user_id) if user_id else self.of_everybody(), options["format"])
        elif user_id:
            user = find_user(user_id)
            if user is None:
                # The user is deleted, but sessions of theirs may be left.
                count = drive(user_sessions().revoke(user_id), self.stores.backend.run)
                if count:
                    audit.record_revoked(user_id, count)
            else:
                count = revoke_sessions(user)
            self.say(count, f"of user {user_id}")
        else:
            self.say(self.total("Revoked", self.revoke_all()), "of everybody")

    def of_user(self, user_id: str) -> Iterable[SessionRecord]:
        return drive(user_sessions().of_user(user_id), self.stores.backend.run)

    def of_everybody(self) -> Iterator[SessionRecord]:
        """The sessions page by page, without those in which nobody is signed in."""
        sessions, run = user_sessions(), self.stores.backend.run
        for keys in whole_steps(pages(self.stores.backend, [sessions.first_page()])):
            texts = run(GetMany(tuple(keys))) if keys else []
            records = map(parse, texts)
            yield from (record for record in records if record and record.user_id)

    def revoke_all(self) -> Iterator[int]:
        """Revoke all sessions and remove their indexes; yields how many went with each page."""
        sessions, run = user_sessions(), self.stores.backend.run
        for keys in pages(self.stores.backend, [sessions.first_page()]):
            users = {key: sessions.user_of(key) for key in keys}
            records = tuple(key for key, user_id in users.items() if user_id is None)
            ended = run(Unlink(records)) if records else 0
            # Tokens are dropped one by one; to remove an index would lose somebody who is signing
            # in now.
            for user_id in filter(None, users.values()):
                ended += drive(sessions.revoke(user_id), run)
            if ended:
                audit.record("sessions_revoked", count=ended)
            yield ended

    def list(self, records: Iterable[SessionRecord], format: str) -> None:
        if format == "json":
            self.write_json(map(as_json, records))
            return
        for record in records:
            self.show(*as_json(record).values())

    def say(self, count: int, whose: str) -> None:
        self.stdout.write(f"Revoked {count:,} session{'' if count == 1 else 's'} {whose}.")


def as_json(record: SessionRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "user": record.user_id,
        "created_at": write_time(record.created_at),
        "last_seen": write_time(record.updated_at),
        "ip_address": record.ip_address,
        "device": describe_agent(record.user_agent),
    }
