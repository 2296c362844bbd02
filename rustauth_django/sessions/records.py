"""A login session and the index of a user's sessions, as they are stored."""

import json
from datetime import datetime
from typing import Any, NamedTuple, Self

from ..engine.durations import to_milliseconds
from ..engine.records import EPOCH, dump, load, moment, read_text, read_time, write_time

#: The fields of the hash.
FIELDS = ("data", "seen_at", "seen_address", "seen_agent", "ends_at", "state")
MAX_TOKEN = 256


def is_token(text: Any) -> bool:
    """Could this be the token of a session? One with a colon is the name of an index (QUIRK-17)."""
    return (
        isinstance(text, str)
        and 8 <= len(text) <= MAX_TOKEN
        and text.isascii()
        and text.isprintable()
        and ":" not in text
    )


class SessionRecord(NamedTuple):
    """A login session (SESS-01): RustAuth's eight fields.

    A visitor who is not signed in has an empty ``user_id``. Times are aware.
    """

    id: str
    user_id: str
    expires_at: datetime
    token: str
    ip_address: str | None
    user_agent: str | None
    created_at: datetime
    updated_at: datetime

    def __repr__(self) -> str:
        # Tracebacks may print it.
        return f"<SessionRecord: {self.id}>"

    def to_json(self) -> str:
        return dump(
            {
                "id": self.id,
                "user_id": self.user_id,
                "expires_at": write_time(self.expires_at),
                "token": self.token,
                "ip_address": self.ip_address,
                "user_agent": self.user_agent,
                "created_at": write_time(self.created_at),
                "updated_at": write_time(self.updated_at),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """A record that was stored. Raises ``ValueError`` if it is corrupt."""
        get = load(text).get
        return cls(
            read_text(get("id")),
            read_text(get("user_id")),
            read_time(get("expires_at")),
            read_text(get("token")),
            _optional(get("ip_address")),
            _optional(get("user_agent")),
            read_time(get("created_at")),
            read_time(get("updated_at")),
        )


def parse(text: str | None) -> SessionRecord | None:
    """A stored record; None if there is none, or a corrupt one."""
    try:
        return None if text is None else SessionRecord.from_json(text)
    except ValueError:
        return None


class Client(NamedTuple):
    """Where a request came from."""

    address: str | None
    agent: str | None


NOWHERE = Client(None, None)


class DjangoPart(NamedTuple):
    """What Django adds to a session, in a hash of its own, since RustAuth keeps no other fields.

    ``data`` is Django's dictionary as the serializer wrote it. ``ends_at`` is when the session ends
    at the latest, however often it is prolonged; None if nothing says so. The ``state`` is "row" if
    the session is in a database as well; it begins with "fill" as long as that is not sure.
    """

    data: bytes
    seen_at: datetime
    address: str | None = None
    agent: str | None = None
    ends_at: datetime | None = None
    state: str = ""

    def __repr__(self) -> str:
        return f"<DjangoPart: {self.state}>"

    @property
    def client(self) -> "Client":
        """Where the session was last seen."""
        return Client(self.address, self.agent)

    @property
    def is_provisional(self) -> bool:
        """Is this a copy that nobody is to read yet?"""
        return self.state.startswith("fill")

    def to_fields(self) -> dict[str, bytes]:
        """The whole hash."""
        return {"data": self.data, **self.visit(), "state": self.state.encode()}

    def visit(self) -> dict[str, bytes]:
        """The fields that a visit changes."""
        return {
            "seen_at": _write_ms(self.seen_at),
            "seen_address": (self.address or "").encode("utf-8", "replace"),
            "seen_agent": (self.agent or "").encode("utf-8", "replace"),
            "ends_at": _write_ms(self.ends_at),
        }

    @classmethod
    def from_fields(cls, fields: dict[str, bytes]) -> Self | None:
        """A hash that was stored; None if it is corrupt, or none at all."""
        try:
            return cls(
                fields["data"],
                moment(int(fields["seen_at"])),
                fields.get("seen_address", b"").decode("utf-8", "replace") or None,
                fields.get("seen_agent", b"").decode("utf-8", "replace") or None,
                moment(int(fields["ends_at"])) if fields.get("ends_at") else None,
                fields.get("state", b"").decode("ascii", "replace"),
            )
        except (KeyError, ValueError, OverflowError):
            return None


class Session(NamedTuple):
    """A session that was read. A session that RustAuth made has no ``part``."""

    record: SessionRecord
    part: DjangoPart | None

    @property
    def expires_at(self) -> datetime:
        """RustAuth may have prolonged the record beyond the end that Django has set."""
        ends_at = self.part and self.part.ends_at
        return min(self.record.expires_at, ends_at) if ends_at else self.record.expires_at


def _write_ms(time: datetime | None) -> bytes:
    return b"" if time is None else b"%d" % to_milliseconds(time - EPOCH, "time")


def _optional(text: Any) -> str | None:
    return None if text is None else read_text(text)


def read_index(text: str | None) -> list[str]:
    """The tokens of an index (SESS-02), each once; a corrupt index has none (QUIRK-04). Text with
    half a surrogate pair is no token, since UTF-8 cannot encode it.
    """
    try:
        found = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return []
    tokens = found if isinstance(found, list) else []
    texts = (token for token in tokens if isinstance(token, str) and token.isprintable())
    return list(dict.fromkeys(texts))


def write_index(tokens: list[str]) -> str:
    """An index of these tokens, as it is stored."""
    return json.dumps(tokens, separators=(",", ":"), ensure_ascii=False)
