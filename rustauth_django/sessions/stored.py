"""Sessions that outlive the server: each is a row of a table as well.

The server is asked first. What it does not have, the row answers, and the server is filled again:

- A copy that is filled in is provisional, for seconds and for nobody to read, until its row was
  looked at once more: by a write that changes nothing, and only if nobody has changed the row.
- A row ends before the server's copy does. A row that was added to a copy is removed again if that
  copy is gone by then. So whoever revokes finds either the row or the copy, or is found by the
  other one's last look.

While the server is away, sessions are read from rows and saved to them. A row of which the server
did not hear is marked. Copies of marked rows are removed before anything else is read from the
server: by each process that has noticed the outage, by each new process, and by all others soon.
"""

import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db import Error as DatabaseError

from ..engine.durations import to_milliseconds
from ..engine.keyspace import MAX_SESSIONS
from ..engine.operations import GetMany
from ..engine.plans import Call
from ..engine.records import EPOCH
from ..exceptions import BackendError, BackendOverloaded, BackendUnavailable
from .index import Indexed, SessionPlan, UserSessions, new_id
from .operations import DropTokens, How, WriteSession
from .records import DjangoPart, Session, SessionRecord
from .rows import Marked, Rows, key_of

logger = logging.getLogger("rustauth_django")

# How long the server keeps a copy that is not confirmed.
PROVISIONAL_MS = 5_000
# How often a process looks for marks that another one has left.
LOOK_AGAIN = timedelta(seconds=30)
# A row that changes all the time is read so many times at most.
MAX_TRIES = 5
# For how long the server may have what was ended while it was away.
LONGEST = timedelta(days=400)
# The server was not reached.
AWAY = (BackendUnavailable, BackendOverloaded)


class StoredSessions(UserSessions):
    """The same plans for sessions that are rows as well."""

    state = "row"

    def __init__(self, rows: Rows, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._rows = rows
        rows.on_mark = self._doubt
        # How often something has gone wrong with the server; how often, when its copies of marked
        # rows were last removed; and when that was.
        self._doubts, self._settled, self._settled_at = 0, -1, EPOCH

    def find(self, token: str) -> "SessionPlan[Session | None]":
        try:
            yield from self._settle()
            session = yield from super().find(token)
        except AWAY:
            self._doubt()
            row: Session | None = yield Call(self._rows.find, (token, self._now_ms()))
            return row
        if session is not None and session.part and not session.part.is_provisional:
            return session
        # What has no hash began at a RustAuth service, or has lost it.
        filled = yield from self._fill(token)
        return filled or (session if session and session.part is None else None)

    def put(
        self, record: SessionRecord, part: DjangoPart, how: How, *, is_new_login: bool = False
    ) -> "SessionPlan[list[Indexed] | None]":
        if how == "KEEP":  # a session of a RustAuth service has no row
            return (yield from super().put(record, part, how))
        session = Session(record, part._replace(state="row"))
        count = 0
        if how == "NX":
            begun = yield from self._begin(session)
            count, is_stored = begun or 0, begun is not None
        elif part.state == "row" and (yield Call(self._rows.save, (session,))):
            is_stored = yield from self._save_copy(session)
        else:
            is_stored = yield from self._add_row(session)
        if not is_stored:
            return None
        # The rows know of sessions that the server has lost, and to ask them is one query more.
        if is_new_login and record.user_id and (self._most < MAX_SESSIONS or count > self._most):
            return (yield from self._make_room(record.user_id))
        return []

    def touch(
        self, record: SessionRecord, part: DjangoPart, before: DjangoPart
    ) -> SessionPlan[bool]:
        if part.state != "row":
            return (yield from super().touch(record, part, before))
        session = Session(record, part)
        is_touched = yield from self._touch_row(session, before)
        if not (yield from super().touch(record, part, before)):
            return False
        if not is_touched:
            # It has missed an earlier visit, or somebody is saving it: then that one's data stays.
            yield from self._touch_row(session)
        return True

    def _touch_row(self, session: Session, before: DjangoPart | None = None) -> SessionPlan[bool]:
        """Change the times in a row. That is optional: Django may do without."""
        try:
            is_touched: bool = yield Call(self._rows.touch, (session, before))
        except DatabaseError as error:
            logger.warning("A session could not be prolonged: %s", type(error).__name__)
            return False
        return is_touched

    def move(
        self, before: SessionRecord, record: SessionRecord, part: DjangoPart
    ) -> SessionPlan[bool]:
        session = Session(record, part._replace(state="row"))
        if part.state != "row" or not (yield Call(self._rows.move, (before.token, session))):
            # There is no row that could move: the copy decides.
            if not (yield from super().move(before, *_both(session))):
                return False
            return (yield from self._add_row(session))
        try:
            is_there = yield from super().move(before, *_both(session))
        except AWAY:
            self._doubt()
            yield Call(self._rows.bury, (Session(before, part),))
            return True
        return is_there or (yield from self._fill(record.token)) is not None

    def has_moved(self, record: SessionRecord) -> SessionPlan[bool]:
        arguments = record.user_id, record.id, self._now_ms()
        if (yield Call(self._rows.has_id, arguments)):
            return True
        return (yield from super().has_moved(record))

    def remove(self, token: str, user_id: str | None = None) -> SessionPlan[bool]:
        if not token:
            return False
        was_stored: int = yield Call(self._rows.remove, ([token],))
        try:
            was_there = yield from super().remove(token, user_id)
        except AWAY:
            self._doubt()
            yield Call(self._rows.bury, (self._tombstone(token, user_id or ""),))
            return was_stored > 0
        if was_there:
            # Somebody who was saving it may have given it a row since.
            yield Call(self._rows.remove, ([token],))
        return was_there or was_stored > 0

    def of_user(self, user_id: str) -> SessionPlan[list[Session]]:
        rows = dict((yield Call(self._rows.of_user, (user_id, self._now_ms()))))
        try:
            yield from self._settle()
            found = yield from super().of_user(user_id)
        except AWAY:
            self._doubt()
            found = []
        copies = [one for one in found if not (one.part and one.part.is_provisional)]
        known = {session.record.token for session in copies}
        copies += [session for token, session in rows.items() if token not in known]
        return sorted(copies, key=lambda session: session.record.created_at)

    def indexed(self, user_id: str) -> SessionPlan[list[Indexed]]:
        rows = yield Call(self._rows.of_user, (user_id, self._now_ms()))
        found: dict[str, SessionRecord | None] = {}
        try:
            found.update((yield from super().indexed(user_id)))
        except AWAY:
            self._doubt()
        return list((found | {token: session.record for token, session in rows}).items())

    def revoke(self, user_id: str, spared: str | None = None) -> SessionPlan[list[Indexed]]:
        try:
            yield from super().indexed(user_id)
        except AWAY:
            self._doubt()
        else:
            return (yield from super().revoke(user_id, spared))
        # Rows end now. What else the server has of this user ends as soon as it is there again.
        rows = yield Call(self._rows.of_user, (user_id, self._now_ms()))
        meant = [(token, one.record) for token, one in rows if token != spared]
        yield Call(self._rows.end, ([token for token, _ in meant],))
        yield Call(self._rows.bury, (self._tombstone(user_token(user_id), user_id, spared),))
        return meant

    def end(self, user_id: str, meant: Iterable[Indexed]) -> SessionPlan[list[Indexed]]:
        records = dict(meant)
        if not records:
            return []
        tokens = list(records)
        stored: set[str] = yield Call(self._rows.end, (tokens,))
        try:
            ended = yield from super().end(user_id, records.items())
        except AWAY:
            self._doubt()
            if set(tokens) - stored:
                raise
            return list(records.items())
        # Also the rows that were added to copies meanwhile.
        yield Call(self._rows.remove, (tokens,))
        names = stored | {token for token, _ in ended}
        return [(token, record) for token, record in records.items() if token in names]

    def end_tokens(self, tokens: Iterable[str]) -> SessionPlan[list[str]]:
        meant = list(tokens)
        stored: set[str] = yield Call(self._rows.end, (meant,))
        ended = yield from super().end_tokens(meant)
        yield Call(self._rows.remove, (meant,))
        return list(stored.union(ended))

    def forget_expired(self) -> SessionPlan[int]:
        """Remove the rows that have expired. How many there were."""
        removed: int = yield Call(self._rows.remove_expired, (self._now_ms(),))
        return removed

    def page(self, after: str) -> "SessionPlan[dict[str, str | None]]":
        """Some of the sessions that have a row, in the order of their keys: those after this one.
        Each key with its token, or None if that cannot be read.
        """
        found: dict[str, str | None] = yield Call(self._rows.page, (after, self._now_ms()))
        return found

    def forget_all(self) -> SessionPlan[int]:
        """Remove all rows. How many of them were alive."""
        removed: int = yield Call(self._rows.remove_all, (self._now_ms(),))
        return removed

    def _begin(self, session: Session) -> "SessionPlan[int | None]":
        """Store a session that is new. How many the user's index has then, 0 if that is not known,
        None if the token is not new.

        The copy comes first, and is provisional until there is a row: so whoever revokes finds it,
        and then it is filled in from the row, as a session that has begun meanwhile.
        """
        record, part = _both(session)
        copy = part._replace(state=f"fill {new_id()}")
        try:
            count = yield from self._write_copy(record, copy, "NX")
        except AWAY:
            self._doubt()
            return 0 if (yield Call(self._rows.insert, (session,))) else None
        if count is None:
            return None
        if not (yield Call(self._rows.insert, (session,))):
            yield from self._end_copies([record.token])
            return None
        try:
            if (yield from self._write_copy(record, copy, "CONFIRM")) is None:
                yield from self._fill(record.token)
        except AWAY:
            self._doubt()
        return count

    def _save_copy(self, session: Session) -> SessionPlan[bool]:
        """Have the server hear of a row that was changed. Is the session still there?"""
        record, part = _both(session)
        try:
            if (yield from super().put(record, part, "XX")) is not None:
                return True
        except AWAY:
            self._doubt()
            yield Call(self._rows.mark, ([record.token],))
            return True
        # The server has lost it, or somebody has revoked it since.
        return (yield from self._fill(record.token)) is not None

    def _add_row(self, session: Session) -> SessionPlan[bool]:
        """Save a session that the server has and that has no row; it began without a table, or its
        row was rolled back. Is it still there?
        """
        record, part = _both(session)
        if (yield from super().put(record, part, "XX")) is None:
            return False
        if not (yield Call(self._rows.insert, (session,))):
            if (yield Call(self._rows.save, (session,))):
                return True
            # It was ended while the server was away.
            yield from super().end(record.user_id, [(record.token, record)])
            return False
        if (yield from super().find(record.token)) is not None:
            return True
        yield Call(self._rows.remove, ([record.token],))
        return False

    def _fill(self, token: str) -> "SessionPlan[Session | None]":
        """Answer from the row, and have the server know the session again."""
        for _ in range(MAX_TRIES):
            session: Session | None = yield Call(self._rows.find, (token, self._now_ms()))
            if session is None:
                return None
            record, part = _both(session)
            copy = part._replace(state=f"fill {new_id()}")
            is_filled = False
            try:
                is_filled = (yield from self._write_copy(record, copy, "FILL")) is not None
            except BackendError:
                self._doubt()  # the row answers, also if nothing can be written
            if (yield Call(self._rows.confirm, (token, part))):
                if is_filled:
                    try:
                        yield from self._write_copy(record, copy, "CONFIRM")
                    except BackendError:
                        self._doubt()
                else:
                    found = yield from self._confirmed(token)
                    session = found or session
                return session
        return None

    def _confirmed(self, token: str) -> "SessionPlan[Session | None]":
        """What the server has of a session, if somebody else has filled it in."""
        try:
            found = yield from super().find(token)
        except BackendError:
            return None
        return found if found and found.part and found.part.state == "row" else None

    def _write_copy(
        self, record: SessionRecord, part: DjangoPart, how: How
    ) -> "SessionPlan[int | None]":
        """Write a copy that is provisional, or confirm it, if it is still the one with this state.
        As ``WriteSession`` answers.
        """
        ttl_ms = self._ttl_ms(record)
        index = self._index(record.user_id) if record.user_id else None
        is_confirmed = how == "CONFIRM"
        count: int | None = yield WriteSession(
            *(record.token, ttl_ms if is_confirmed else min(ttl_ms, PROVISIONAL_MS), how),
            *(self._key(record.token), self._hash(record.token), index),
            value="" if is_confirmed else record.to_json(),
            updated_at=part.state if is_confirmed else "",
            fields={} if is_confirmed else part.to_fields(),
        )
        return count

    def _make_room(self, user_id: str) -> SessionPlan[list[Indexed]]:
        try:
            if self._most < len((yield from self.indexed(user_id))):
                return (yield from self._end_oldest(user_id))
        except AWAY:
            self._doubt()
        return []

    def _settle(self) -> SessionPlan[None]:
        """Remove the server's copies of marked rows, if there may be any."""
        doubts, now = self._doubts, self.clock()
        if self._settled == doubts and now - self._settled_at < LOOK_AGAIN:
            return
        while True:
            try:
                marked = yield Call(self._rows.marked)
            except DatabaseError as error:
                logger.warning("Marks of sessions could not be read: %s", type(error).__name__)
                return
            if not marked:
                break
            yield from self._end_copies([row.token for row in marked if row.token])
            for row in marked:
                if row.token == user_token(row.user_id):
                    yield from self._revoke_before(row)
                elif row.is_ended and row.user_id and row.token:
                    yield DropTokens(self._index(row.user_id), (row.token,))
            yield Call(self._rows.settle, (marked,))
        # Without marks too, the server must answer for this to be over.
        yield GetMany((self._key("-"),))
        self._settled, self._settled_at = doubts, now

    def _revoke_before(self, row: Marked) -> SessionPlan[None]:
        """End what the server has of a user whose sessions were revoked while it was away."""
        meant = [
            (token, record)
            for token, record in (yield from super().indexed(row.user_id))
            if record
            and record.user_id == row.user_id
            and (row.created_at is None or record.created_at <= row.created_at)
            and key_of(token) != row.session_id
        ]
        yield from super().end(row.user_id, meant)

    def _doubt(self) -> None:
        self._doubts += 1

    def _tombstone(self, token: str, user_id: str, spared: str | None = None) -> Session:
        """What is kept of a session that has ended, for as long as the server may have it; or of
        all sessions of a user but one.
        """
        now = self.clock()
        id = key_of(spared) if spared else ""
        ends_at = now + LONGEST
        record = SessionRecord(id, user_id, ends_at, token, None, None, now, now)
        return Session(record, DjangoPart(b"", now))

    def _now_ms(self) -> int:
        return to_milliseconds(self.clock() - EPOCH, "now")


def user_token(user_id: str) -> str:
    """What stands in the place of a token in the row of all sessions of a user. It is no token."""
    return f"user:{user_id}"


def _both(session: Session) -> tuple[SessionRecord, DjangoPart]:
    assert session.part is not None
    return session.record, session.part


def sessions_on(settings: Any, stores: Any) -> UserSessions:
    """The sessions that the settings describe, for ``get_feature``."""
    keyspace, options = stores.secondary_storage.keyspace, settings.sessions
    if options.database is None:
        return UserSessions(keyspace, options.max_per_user)
    rows = Rows(options.database, options.cookie_secrets)
    return StoredSessions(rows, keyspace, options.max_per_user)
