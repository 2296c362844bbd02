from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from typing import Any

from ... import audit
from ...connections import run
from ...engine.keyspace import pages
from ...engine.records import write_time
from ...sessions.agents import describe_agent
from ...sessions.identity import user_id_of
from ...sessions.index import Indexed, UserSessions
from ...sessions.records import Session
from ...sessions.store import user_sessions
from ...sessions.stored import StoredSessions
from ...sessions.users import tell
from ..base import StoresCommand, find_user, whole_steps


class Command(StoresCommand):
    help = (
        "Lists login sessions as id, user, sign-in, last use, address, device; or revokes them."
        " Tokens are not shown."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=["list", "revoke"])
        whose = parser.add_mutually_exclusive_group(required=True)
        whose.add_argument(
            "--user",
            metavar="USER",
            help="Those of a user, by primary key, user name or e-mail address.",
        )
        whose.add_argument("--all", action="store_true", help="Those of everybody.")
        parser.add_argument(
            "--walk",
            action="store_true",
            help="Look at all sessions, and not only at the user's list, which may be lost.",
        )
        parser.add_argument("--format", choices=["text", "json"], default="text")

    def handle(self, *args: Any, **options: Any) -> None:
        is_list, is_walk = options["action"] == "list", options["walk"]
        if options["all"]:
            if is_list:
                self.list(self.of_everybody(), options["format"])
            else:
                self.say(self.total("Revoked", self.revoke_all()), "of everybody")
            return
        user = find_user(options["user"], may_be_deleted=True)
        user_id = user_id_of(user.pk if user else options["user"].removeprefix("pk="))
        found = f"Found user {user_id}." if user else f"There is no user {user_id} now."
        self.stderr.write(found, str)
        if is_list:
            sessions = self.of_everybody(user_id) if is_walk else self.of_user(user_id)
            self.list(sessions, options["format"])
            return
        ended = run(user_sessions().revoke(user_id))
        self.tell(user, user_id, ended)
        count = len(ended)
        if is_walk:
            count += self.total("Revoked", self.revoke_lost(user, user_id))
        self.say(count, f"of user {user_id}")

    def of_user(self, user_id: str) -> Iterable[Session]:
        return run(user_sessions().of_user(user_id))

    def of_everybody(self, user_id: str | None = None) -> Iterator[Session]:
        """The sessions page by page, without those in which nobody is signed in; only those of one
        user if that is given.
        """
        sessions = user_sessions()
        for tokens in whole_steps(self.tokens(sessions)):
            for _, session in run(sessions.load(tokens)):
                found = session and session.record.user_id
                if session and found and user_id in (None, found):
                    yield session

    def tokens(self, sessions: UserSessions) -> Iterator[list[str]]:
        """The tokens of all sessions, page by page."""
        for keys in pages(self.stores.backend, [sessions.first_page()]):
            yield [sessions.token_of(key) for key in keys if sessions.user_of(key) is None]

    def revoke_lost(self, user: Any, user_id: str) -> Iterator[int]:
        """Revoke what the list of a user's sessions has lost; yields how many went with each
        page.
        """
        sessions = user_sessions()
        for tokens in self.tokens(sessions):
            lost: list[Indexed] = [
                (token, session.record)
                for token, session in run(sessions.load(tokens))
                if session and session.record.user_id == user_id
            ]
            ended = run(sessions.end(user_id, lost))
            self.tell(user, user_id, ended)
            yield len(ended)

    def revoke_all(self) -> Iterator[int]:
        """Revoke all sessions and remove their indexes; yields how many went with each page."""
        sessions = user_sessions()
        if isinstance(sessions, StoredSessions):
            yield from self.revoke_stored(sessions)
        for keys in pages(self.stores.backend, [sessions.first_page()]):
            users = {key: sessions.user_of(key) for key in keys}
            tokens = [sessions.token_of(key) for key, user_id in users.items() if user_id is None]
            ended = len(run(sessions.end_tokens(tokens)))
            # Tokens are dropped one by one; to remove an index would lose somebody who is signing
            # in now.
            for user_id in filter(None, users.values()):
                ended += len(run(sessions.revoke(user_id)))
            yield counted(ended)

    def revoke_stored(self, sessions: StoredSessions) -> Iterator[int]:
        """Revoke all sessions that have a row, before the server could be filled again from it."""
        after = ""
        while page := run(sessions.page(after)):
            yield counted(len(run(sessions.end_tokens(filter(None, page.values())))))
            after = max(page)
        yield counted(run(sessions.forget_all()))

    def tell(self, user: Any, user_id: str, ended: list[Indexed]) -> None:
        """A deleted user has no receivers of signals, but a line in the audit log."""
        if user is not None:
            tell(user, user_id, ended, "operator")
        elif ended:
            audit.record_revoked(user_id, len(ended))

    def list(self, sessions: Iterable[Session], format: str) -> None:
        if format == "json":
            self.write_json(map(as_json, sessions))
            return
        for session in sessions:
            self.show(*as_json(session).values())

    def say(self, count: int, whose: str) -> None:
        self.stdout.write(f"Revoked {count:,} session{'' if count == 1 else 's'} {whose}.")


def counted(ended: int) -> int:
    """Leave a line in the audit log for so many sessions."""
    if ended:
        audit.record("sessions_revoked", count=ended)
    return ended


def as_json(session: Session) -> dict[str, Any]:
    record, part = session
    return {
        "id": record.id,
        "user": record.user_id,
        "created_at": write_time(record.created_at),
        "last_seen": write_time(part.seen_at if part else record.updated_at),
        "ip_address": record.ip_address,
        "device": describe_agent(record.user_agent),
    }
