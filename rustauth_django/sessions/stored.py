"""Sessions that outlive the server: each is a row of a table as well.

The server is asked first. What it does not have, the row answers, and the server is filled again:

- A row ends before the server's copy does, and a save changes the row before that copy.
- A copy that was filled in is provisional, for seconds and for nobody to read, until its row was
  looked at once more. Whoever revokes ends the row first, so that either this look finds it ended,
  or the revocation finds the copy.

While the server is away, sessions are read from rows and saved to them. A row of which the server
did not hear is marked. Whoever reaches the server again removes its copies of marked rows, before
anything else is read from it; as a process begins it does so, too.
"""

import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.db import Error as DatabaseError

from ..engine.durations import to_milliseconds
from ..engine.operations import GetMany
from ..engine.plans import Call
from ..engine.records import EPOCH
from ..exceptions import BackendUnavailable
from .index import Indexed, SessionPlan, UserSessions
from .operations import DropTokens, EndSessions, How, WriteSession
from .records import DjangoPart, Session, SessionRecord
from .rows import Rows

logger = logging.getLogger("rustauth_django")

# How long the server keeps a copy that is not confirmed.
PROVISIONAL_MS = 5_000


class StoredSessions(UserSessions):
    """The same plans for sessions that are rows as well."""

    state = "row"

    def __init__(self, rows: Rows, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._rows = rows
        # How often something has gone wrong with the server, and how often that was when its copies
        # of marked rows were last removed.
        self._doubts, self._settled = 0, -1

    def find(self, token: str) -> "SessionPlan[Session | None]":
        try:
            yield from self._settle()
            session = yield from super().find(token)
        except BackendUnavailable:
            self._doubts += 1
            found: Session | None = yield Call(self._rows.find, (token, self._now_ms()))
            return found
        if session is not None and not (session.part and session.part.state == "fill"):
            return session
        return (yield from self._fill(token))

    def put(
        self, record: SessionRecord, part: DjangoPart, how: How, *, is_new_login: bool = False
    ) -> "SessionPlan[list[Indexed] | None]":
        if how == "KEEP":  # a session of a RustAuth service has no row
            return (yield from super().put(record, part, how))
        is_known = part.state == "row"
        part = replace(part, state="row")
        session = Session(record, part)
        # A session that began without a table gets its row as it is saved.
        write = self._rows.save if how == "XX" and is_known else self._rows.insert
        if not (yield Call(write, (session,))):
            return None
        try:
            ended = yield from super().put(record, part, how, is_new_login=is_new_login)
        except BackendUnavailable:
            self._doubts += 1
            yield Call(self._rows.mark, ([record.token],))
            return []
        if ended is not None:
            return ended
        if how == "NX":
            yield Call(self._rows.remove, ([record.token],))
            return None
        # The server lost it, or somebody has revoked it since.
        return None if (yield from self._fill(record.token)) is None else []

    def touch(
        self, record: SessionRecord, part: DjangoPart, before: DjangoPart
    ) -> SessionPlan[bool]:
        if part.state == "row":
            try:
                if not (yield Call(self._rows.touch, (Session(record, part), before))):
                    return False
            except DatabaseError as error:
                logger.warning("A session could not be prolonged: %s", type(error).__name__)
        return (yield from super().touch(record, part, before))

    def move(
        self, before: SessionRecord, record: SessionRecord, part: DjangoPart
    ) -> SessionPlan[bool]:
        is_known = part.state == "row"
        session = Session(record, replace(part, state="row"))
        write = Call(self._rows.move, (before.token, session))
        if not (yield write if is_known else Call(self._rows.insert, (session,))):
            return False
        try:
            is_there = yield from super().move(before, *_both(session))
        except BackendUnavailable:
            self._doubts += 1
            yield Call(self._rows.bury, (Session(before, part),))
            return True
        if is_there:
            return True
        if is_known:
            return (yield from self._fill(record.token)) is not None
        yield Call(self._rows.remove, ([record.token],))
        return False

    def has_moved(self, record: SessionRecord) -> SessionPlan[bool]:
        arguments = record.user_id, record.id, self._now_ms()
        if (yield Call(self._rows.has_id, arguments)):
            return True
        return (yield from super().has_moved(record))

    def remove(self, token: str, user_id: str | None = None) -> SessionPlan[bool]:
        session = None
        was_stored: int = yield Call(self._rows.remove, ([token],))
        try:
            was_there = yield from super().remove(token, user_id)
        except BackendUnavailable:
            self._doubts += 1
            session = self._tombstone(token, user_id or "")
            yield Call(self._rows.bury, (session,))
            return was_stored > 0
        return was_there or was_stored > 0

    def of_user(self, user_id: str) -> SessionPlan[list[Session]]:
        rows = dict((yield Call(self._rows.of_user, (user_id, self._now_ms()))))
        try:
            yield from self._settle()
            sessions = yield from super().of_user(user_id)
        except BackendUnavailable:
            self._doubts += 1
            sessions = []
        known = {session.record.token for session in sessions}
        sessions += [session for token, session in rows.items() if token not in known]
        return sorted(sessions, key=lambda session: session.record.created_at)

    def indexed(self, user_id: str) -> SessionPlan[list[Indexed]]:
        rows = yield Call(self._rows.of_user, (user_id, self._now_ms()))
        found: dict[str, SessionRecord | None] = {}
        try:
            found.update((yield from super().indexed(user_id)))
        except BackendUnavailable:
            self._doubts += 1
        return list((found | {token: session.record for token, session in rows}).items())

    def end(self, user_id: str, meant: Iterable[Indexed]) -> SessionPlan[list[Indexed]]:
        records = dict(meant)
        if not records:
            return []
        # Who has a row is ended by it; the others by the server.
        stored = yield Call(self._rows.end, (list(records),))
        try:
            ended = yield from super().end(user_id, records.items())
        except BackendUnavailable:
            self._doubts += 1
            if not stored:
                raise
            return list(records.items())
        if stored:
            yield Call(self._rows.remove, (list(records),))
        return list(records.items()) if stored else ended

    def end_tokens(self, tokens: Iterable[str]) -> SessionPlan[list[str]]:
        meant = list(tokens)
        yield Call(self._rows.remove, (meant,))
        return (yield from super().end_tokens(meant))

    def forget_expired(self) -> SessionPlan[int]:
        """Remove the rows that have expired. How many there were."""
        removed: int = yield Call(self._rows.remove_expired, (self._now_ms(),))
        return removed

    def forget_all(self) -> SessionPlan[int]:
        """Remove all rows. How many there were."""
        removed: int = yield Call(self._rows.remove_all)
        return removed

    def _fill(self, token: str) -> "SessionPlan[Session | None]":
        """Answer from the row, and have the server know the session again."""
        session: Session | None = yield Call(self._rows.find, (token, self._now_ms()))
        if session is None:
            return None
        record, part = _both(session)
        filled = yield from self._write_copy(record, part, "fill", "NX", PROVISIONAL_MS)
        if filled is None:
            # Another request is filling it in, or has done so and perhaps saved something since.
            found = yield from super().find(token)
            if found is not None and found.part and found.part.state == "row":
                return found
        if not (yield Call(self._rows.confirm, (token,))):
            yield from super().end(record.user_id, [(token, record)])
            return None
        yield from self._write_copy(record, part, "row", "CONFIRM", self._ttl_ms(record))
        return session

    def _write_copy(
        self, record: SessionRecord, part: DjangoPart, state: str, how: How, ttl_ms: int
    ) -> "SessionPlan[int | None]":
        fields = replace(part, state=state).to_fields() if how == "NX" else {}
        index = self._index(record.user_id) if record.user_id else None
        written: int | None = yield WriteSession(
            *(record.token, ttl_ms, how, self._key(record.token), self._hash(record.token), index),
            value=record.to_json() if how == "NX" else "",
            fields=fields,
        )
        return written

    def _settle(self) -> SessionPlan[None]:
        """Remove the server's copies of marked rows, if there may be any."""
        doubts = self._doubts
        while self._settled != doubts:
            marked = yield Call(self._rows.marked)
            tokens = [row.token for row in marked if row.token is not None]
            if tokens:
                keys, hashes = map(self._key, tokens), map(self._hash, tokens)
                yield EndSessions(tuple(keys), tuple(hashes))
            for row in marked:
                if row.is_ended and row.user_id and row.token:
                    yield DropTokens(self._index(row.user_id), (row.token,))
            if marked:
                yield Call(self._rows.settle, (marked,))
            else:
                # Without a mark as well, the server must be there for this to be over.
                yield GetMany((self._key("-"),))
                self._settled = doubts

    def _tombstone(self, token: str, user_id: str) -> Session:
        """What is kept of a session that has ended, for as long as the server may have it."""
        now = self.clock()
        ends = now + timedelta(days=400)
        record = SessionRecord("", user_id, ends, token, None, None, now, now)
        return Session(record, DjangoPart(b"", now))

    def _now_ms(self) -> int:
        return to_milliseconds(self.clock() - EPOCH, "now")


def _both(session: Session) -> tuple[SessionRecord, DjangoPart]:
    assert session.part is not None
    return session.record, session.part


def sessions_on(settings: Any, stores: Any) -> UserSessions:
    """The sessions that the settings describe, for ``get_feature``."""
    keyspace, options = stores.secondary_storage.keyspace, settings.sessions
    if options.database is None:
        return UserSessions(keyspace, options.max_per_user)
    return StoredSessions(
        Rows(options.database, options.cookie_secrets), keyspace, options.max_per_user
    )
