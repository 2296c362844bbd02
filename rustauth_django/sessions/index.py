"""Login sessions, and an index of them for each user (contract SESS), as plans of operations.

Every change of a session is one step on the server, every change of an index one step on the index;
nothing is read, changed and written back. A record is written before the index (QUIRK-30): a
session that no index has was never handed out.
"""

import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, TypeVar

from django.utils.crypto import get_random_string

from ..engine.keyspace import MAX_SESSIONS, Keyspace
from ..engine.operations import GetMany, Operation, Scan
from ..engine.plans import Call, Plan
from ..engine.records import write_time
from ..exceptions import BackendError
from .operations import DropTokens, EndSessions, How, LoadSessions, MoveSession, WriteSession
from .records import DjangoPart, Session, SessionRecord, is_token, parse, read_index

T = TypeVar("T")
SessionPlan: TypeAlias = Plan[Operation[Any] | Call, T]
Indexed: TypeAlias = tuple[str, SessionRecord | None]

# Letters and digits: 131 bits.
TOKEN_LENGTH = 22
# An index with this many tokens is searched for ended sessions, and again at twice as many.
LOOK_THROUGH = 32


def utc_now() -> datetime:
    return datetime.now(UTC)


class UserSessions:
    """The sessions under ``{key_prefix}secondary:session:``, and what Django adds to them under
    ``{key_prefix}django:session:``.

    Its methods are plans, for either face to drive. A user has at most ``most`` sessions: the
    oldest end. ``clock`` returns aware times.
    """

    #: What the hash of a session says that was stored by these plans.
    state = ""

    def __init__(
        self, keyspace: Keyspace, most: int = MAX_SESSIONS, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._keyspace = keyspace
        self._most = most
        self._django = keyspace.for_django()
        self.clock = clock

    def find(self, token: str) -> "SessionPlan[Session | None]":
        """The live session of a token (SESS-08); a corrupt one is none (QUIRK-04)."""
        if not is_token(token):
            return None
        ((text, fields),) = yield LoadSessions((self._key(token),), (self._hash(token),))
        return self._live(token, read_session(text, fields))

    def put(
        self, record: SessionRecord, part: DjangoPart, how: How, *, is_new_login: bool = False
    ) -> "SessionPlan[list[Indexed] | None]":
        """Store a session if there is none yet ("NX"), or if it is still there ("XX", QUIRK-03).

        "KEEP" stores only ``part``, if the record is still there. The result is the user's oldest
        sessions that ended to make room for a new login; None if nothing was stored.
        """
        value = "" if how == "KEEP" else record.to_json()
        count = yield from self._write(record, how, value, fields=part.to_fields())
        if count is None:
            return None
        if is_new_login and count > self._most:
            return (yield from self._end_oldest(record.user_id))
        # A token that is already indexed gives 0.
        if count >= LOOK_THROUGH and not count & (count - 1):
            yield from self.of_user(record.user_id)
        return []

    def touch(
        self, record: SessionRecord, part: DjangoPart, before: DjangoPart
    ) -> SessionPlan[bool]:
        """Store the times of a session, and where it was last seen, if nobody has written to it
        since it was read as ``before``; its data stays as it is. The index has it again, if it was
        lost. Was it stored?
        """
        times = write_time(record.expires_at), write_time(record.updated_at)
        seen_before = before.visit()["seen_at"]
        count = yield from self._write(
            record, "TOUCH", *times, seen_before=seen_before, fields=part.visit()
        )
        return count is not None

    def move(
        self, before: SessionRecord, record: SessionRecord, part: DjangoPart
    ) -> SessionPlan[bool]:
        """Give a session a new token, if it is still there. Was it?"""
        moved: bool = yield MoveSession(
            *(before.token, record.token, self._ttl_ms(record)),
            *(self._key(before.token), self._hash(before.token)),
            *(self._key(record.token), self._hash(record.token)),
            self._index(record.user_id) if record.user_id else None,
            *(record.to_json(), part.to_fields()),
        )
        return moved

    def remove(self, token: str, user_id: str | None = None) -> SessionPlan[bool]:
        """End a session. Was there one? None says that its user is not known."""
        if not is_token(token):
            return False
        if user_id is None:
            record = parse(*(yield GetMany((self._key(token),))))
            user_id = record.user_id if record else ""
        was_there: list[bool] = yield EndSessions((self._key(token),), (self._hash(token),))
        if user_id:
            yield DropTokens(self._index(user_id), (token,))
        return any(was_there)

    def of_user(self, user_id: str) -> SessionPlan[list[Session]]:
        """A user's live sessions, in the order of their sign-ins (SESS-14, SESS-26).

        Tokens without a session, or with a corrupt one, are removed from the index.
        """
        tokens = yield from self._tokens(user_id)
        loaded = yield from self.load([token for token in tokens if is_token(token)])
        yield from self._drop(user_id, [(token, None) for token, one in loaded if one is None])
        live = (self._live(token, session) for token, session in loaded)
        found = [session for session in live if session and session.record.user_id == user_id]
        return sorted(found, key=lambda session: session.record.created_at)

    def revoke(self, user_id: str, spared: str | None = None) -> SessionPlan[list[Indexed]]:
        """End a user's sessions, but for the one with this token. Those that there were.

        Sessions that begin while this runs are spared and stay in the index. A session that began
        before and gets a new token meanwhile ends.
        """
        began, is_again = self.clock(), False
        ended: list[Indexed] = []
        while True:
            meant = [
                (token, record)
                for token, record in (yield from self.indexed(user_id))
                if record is None
                or not (
                    record.user_id != user_id
                    or token == spared
                    or (is_again and record.created_at > began)
                )
            ]
            if not meant:
                return ended
            ended += yield from self.end(user_id, meant)
            is_again = True

    def indexed(self, user_id: str) -> SessionPlan[list[Indexed]]:
        """The tokens of a user's index, each with its record, or None."""
        tokens = yield from self._tokens(user_id)
        texts = (yield GetMany(tuple(map(self._key, tokens)))) if tokens else []
        return [(token, parse(text)) for token, text in zip(tokens, texts, strict=True)]

    def end(self, user_id: str, meant: Iterable[Indexed]) -> SessionPlan[list[Indexed]]:
        """End these sessions of a user. Those that there were."""
        records = dict(meant)
        if not records:
            return []
        tokens = yield from self._end_copies(records)
        yield DropTokens(self._index(user_id), tuple(records))
        return [(token, records[token]) for token in tokens]

    def end_tokens(self, tokens: Iterable[str]) -> SessionPlan[list[str]]:
        """End the sessions of these tokens, and leave them in their indexes. Those that there
        were.
        """
        return (yield from self._end_copies(tokens))

    def _end_copies(self, tokens: Iterable[str]) -> SessionPlan[list[str]]:
        meant = [token for token in tokens if is_token(token)]
        if not meant:
            return []
        keys, hashes = map(self._key, meant), map(self._hash, meant)
        were_there = yield EndSessions(tuple(keys), tuple(hashes))
        return [token for token, was_there in zip(meant, were_there, strict=True) if was_there]

    def first_page(self) -> Scan:
        """Where a walk over all sessions and indexes starts."""
        return replace(self._keyspace.first_page(), prefix=self._key(""))

    def user_of(self, physical: str) -> str | None:
        """The user whose index this key is; None if it is a session's key."""
        root = self._index("")
        return physical.removeprefix(root) if physical.startswith(root) else None

    def token_of(self, physical: str) -> str:
        """The token of the session that has this key."""
        return physical.removeprefix(self._key(""))

    def has_moved(self, record: SessionRecord) -> SessionPlan[bool]:
        """Has a user a session with the id of this one, which has another token now?"""
        indexed = yield from self.indexed(record.user_id)
        return any(one and one.id == record.id for _, one in indexed)

    def leave_index(self, user_id: str, token: str) -> SessionPlan[None]:
        """Remove a session from this user's index; the session itself goes on."""
        yield DropTokens(self._index(user_id), (token,))

    def _write(
        self,
        record: SessionRecord,
        how: How,
        value: str,
        updated_at: str = "",
        *,
        seen_before: bytes = b"",
        fields: dict[str, bytes],
    ) -> "SessionPlan[int | None]":
        index = self._index(record.user_id) if record.user_id else None
        count: int | None = yield WriteSession(
            *(record.token, self._ttl_ms(record), how),
            *(self._key(record.token), self._hash(record.token), index),
            value=value,
            updated_at=updated_at,
            seen_before=seen_before,
            fields=fields,
        )
        return count

    def _end_oldest(self, user_id: str) -> SessionPlan[list[Indexed]]:
        """End the oldest sessions of a user that are too many; tokens without one do not count."""
        now = self.clock()
        sessions: list[tuple[datetime, str, SessionRecord]] = []
        gone: list[Indexed] = []
        for token, record in (yield from self.indexed(user_id)):
            if record is None or record.user_id != user_id or record.expires_at <= now:
                gone.append((token, record))
            else:
                sessions.append((record.created_at, token, record))
        yield from self._drop(user_id, gone)
        oldest = sorted(sessions, key=lambda one: one[0])[: -self._most]
        return (yield from self.end(user_id, [(token, record) for _, token, record in oldest]))

    def _drop(self, user_id: str, gone: list[Indexed]) -> SessionPlan[None]:
        """Remove tokens from an index that stand for no session of this user; and what is left of
        those that have no record, or a corrupt one.
        """
        if not gone:
            return
        # This is only tidying up: where nothing can be written, reading goes on.
        with suppress(BackendError):
            yield from self._end_copies([token for token, record in gone if record is None])
            yield DropTokens(self._index(user_id), tuple(token for token, _ in gone))

    def _tokens(self, user_id: str) -> SessionPlan[list[str]]:
        return read_index(*(yield GetMany((self._index(user_id),))))

    def load(self, tokens: list[str]) -> "SessionPlan[list[tuple[str, Session | None]]]":
        """Each token with its session, live or not; a corrupt record is None."""
        if not tokens:
            return []
        keys, hashes = map(self._key, tokens), map(self._hash, tokens)
        stored = yield LoadSessions(tuple(keys), tuple(hashes))
        return [(token, read_session(*one)) for token, one in zip(tokens, stored, strict=True)]

    def _live(self, token: str, session: Session | None) -> Session | None:
        is_live = session and session.record.token == token and session.expires_at > self.clock()
        return session if is_live else None

    def _ttl_ms(self, record: SessionRecord) -> int:
        """An expired record is stored for a moment, and is no session even then."""
        left = (record.expires_at - self.clock()) // timedelta(milliseconds=1)
        return max(1, left)

    def _key(self, token: str) -> str:
        return self._keyspace.physical(f"session:{token}")

    def _hash(self, token: str) -> str:
        return self._django.physical(f"session:{token}")

    def _index(self, user_id: str) -> str:
        return self._keyspace.physical(f"session:user:{user_id}")


def read_session(text: str | None, fields: dict[str, bytes] | None) -> Session | None:
    """A stored session; None if there is no record, or a corrupt one."""
    record = parse(text)
    return (
        None
        if record is None
        else Session(record, DjangoPart.from_fields(fields) if fields else None)
    )


def new_id() -> str:
    """An id of 32 random letters and digits."""
    return secrets.token_hex(16)


def new_token() -> str:
    """A random token. With its signature, a session key has 40 characters: other packages have no
    room for more in their tables.
    """
    return get_random_string(TOKEN_LENGTH)
