"""Login sessions, and an index of them for each user (contract SESS), as plans of operations.

Every change of a session is one step on its key, every change of an index one step on the index;
nothing is read, changed and written back. The record is written before the index (QUIRK-30): a
session that no index has was never handed out.
"""

import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

from ..engine.keyspace import Keyspace
from ..engine.operations import Delete, GetMany, Operation, Scan, Set, Unlink
from ..engine.plans import Plan
from .operations import DropTokens, PutSession
from .records import SessionRecord, read_index

Indexed: TypeAlias = tuple[str, SessionRecord | None]

MAX_TOKEN = 256
# The most sessions of a user; the oldest end. An index is read and written as a whole.
MAX_SESSIONS = 1_000
# An index with this many tokens is searched for ended sessions, and again at twice as many.
LOOK_THROUGH = 32


def utc_now() -> datetime:
    return datetime.now(UTC)


def is_token(text: Any) -> bool:
    """Could this be the token of a session? One with a colon is the name of an index (QUIRK-17)."""
    return (
        isinstance(text, str)
        and 8 <= len(text) <= MAX_TOKEN
        and text.isascii()
        and text.isprintable()
        and ":" not in text
    )


class UserSessions:
    """The sessions under ``{key_prefix}secondary:session:``.

    Its methods are plans, for either face to drive. ``clock`` returns aware times.
    """

    def __init__(self, keyspace: Keyspace, clock: Callable[[], datetime] = utc_now) -> None:
        self._keyspace = keyspace
        self.clock = clock

    def find(self, token: str) -> "Plan[Operation[Any], SessionRecord | None]":
        """The live session of a token (SESS-08); a corrupt one is none (QUIRK-04)."""
        if not is_token(token):
            return None
        # GetMany, not Get: it answers None where a value is no text, or no string at all.
        (text,) = yield GetMany((self._key(token),))
        return self._live(token, parse(text))

    def put(
        self, record: SessionRecord, only_if: Literal["absent", "present"]
    ) -> Plan[Operation[Any], bool]:
        """Store a session if there is none yet, or if it is still there (QUIRK-03)."""
        left = (record.expires_at - self.clock()) // timedelta(milliseconds=1)
        # An expired record is stored for a moment, and is no session even then.
        ttl_ms, key, value = max(1, left), self._key(record.token), record.to_json()
        if not record.user_id:
            stored: bool = yield Set(key, value, ttl_ms, only_if)
            return stored
        index = self._index(record.user_id)
        count = yield PutSession(index, record.token, ttl_ms, key, value, only_if)
        if count is None:
            return False
        # A token that is already indexed gives 0.
        if count >= LOOK_THROUGH and not count & (count - 1):
            yield from self.of_user(record.user_id)
        elif count > MAX_SESSIONS:
            tokens = read_index(*(yield GetMany((index,))))
            yield from self.revoke_tokens(record.user_id, tokens[:-MAX_SESSIONS])
        return True

    def remove(self, token: str) -> Plan[Operation[Any], bool]:
        """End a session. Was there one?"""
        if not is_token(token):
            return False
        (text,) = yield GetMany((self._key(token),))
        was_there: bool = yield Delete(self._key(token))
        record = parse(text)
        if record is not None and record.user_id:
            yield DropTokens(self._index(record.user_id), (token,))
        return was_there

    def of_user(self, user_id: str) -> Plan[Operation[Any], list[SessionRecord]]:
        """A user's live sessions, in the order in which they began (SESS-14, SESS-26).

        Tokens without a session, or with a corrupt one, are removed from the index.
        """
        indexed = yield from self._indexed(user_id)
        gone = [token for token, record in indexed if record is None and is_token(token)]
        yield from self.revoke_tokens(user_id, gone)
        live = (self._live(token, record) for token, record in indexed if is_token(token))
        return [record for record in live if record and record.user_id == user_id]

    def revoke(
        self, user_id: str, is_spared: Callable[[SessionRecord], bool] = lambda record: False
    ) -> Plan[Operation[Any], int]:
        """End a user's sessions, but for those that are spared. How many there were.

        Sessions that begin while this runs are spared and stay in the index. A session that began
        before and gets a new key meanwhile ends.
        """
        began, ended, is_again = self.clock(), 0, False
        while True:
            meant = [
                token
                for token, record in (yield from self._indexed(user_id))
                if record is None
                or not (is_spared(record) or (is_again and record.created_at > began))
            ]
            if not meant:
                return ended
            ended += yield from self.revoke_tokens(user_id, meant)
            is_again = True

    def revoke_tokens(self, user_id: str, tokens: Iterable[str]) -> Plan[Operation[Any], int]:
        """End these sessions of a user. How many there were."""
        meant = tuple(tokens)
        if not meant:
            return 0
        ended: int = 0
        if keys := tuple(self._key(token) for token in meant if is_token(token)):
            ended = yield Unlink(keys)
        yield DropTokens(self._index(user_id), meant)
        return ended

    def first_page(self) -> Scan:
        """Where a walk over all sessions and indexes starts."""
        return replace(self._keyspace.first_page(), prefix=self._key(""))

    def user_of(self, physical: str) -> str | None:
        """The user whose index this key is; None if it is a session's key."""
        root = self._index("")
        return physical.removeprefix(root) if physical.startswith(root) else None

    def leave_index(self, user_id: str, token: str) -> Plan[Operation[Any], None]:
        """Remove a session from this user's index; the session itself goes on."""
        yield DropTokens(self._index(user_id), (token,))

    def _indexed(self, user_id: str) -> "Plan[Operation[Any], list[Indexed]]":
        """The tokens of a user's index, each with its record, or None."""
        tokens = read_index(*(yield GetMany((self._index(user_id),))))
        texts = (yield GetMany(tuple(map(self._key, tokens)))) if tokens else []
        return [(token, parse(text)) for token, text in zip(tokens, texts, strict=True)]

    def _live(self, token: str, record: SessionRecord | None) -> SessionRecord | None:
        is_live = record and record.token == token and record.expires_at > self.clock()
        return record if is_live else None

    def _key(self, token: str) -> str:
        return self._keyspace.physical(f"session:{token}")

    def _index(self, user_id: str) -> str:
        return self._keyspace.physical(f"session:user:{user_id}")


def parse(text: str | None) -> SessionRecord | None:
    """A stored record; None if there is none, or a corrupt one."""
    try:
        return None if text is None else SessionRecord.from_json(text)
    except ValueError:
        return None


def new_id() -> str:
    """An id of 32 random letters and digits."""
    return secrets.token_hex(16)
