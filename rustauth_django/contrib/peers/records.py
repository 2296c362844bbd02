"""The records of sessions that Better Auth and RustAuth store, and which of them count."""

from datetime import datetime
from typing import Any

from ...engine.durations import to_milliseconds
from ...engine.records import EPOCH, load, read_time
from ...sessions.records import parse
from .session import PeerSession

MAX_ID = 255


def session_key(prefix: str, token: str) -> str:
    """Where Better Auth keeps the record of a session (PEER-06)."""
    return f"{prefix}{token}"


def mark_key(prefix: str, user_id: str) -> str:
    """The mark of a user: all sessions that began before it are revoked (PEER-08)."""
    return f"{prefix}revoked-sessions-before-{user_id}"


def read_rustauth(peer: str, text: str | None, token: str, now: datetime) -> PeerSession | None:
    """The session in a record of RustAuth's (PEER-15); None if it is over, or no record."""
    record = parse(text)
    if record is None or record.token != token or record.expires_at <= now:
        return None
    if not 0 < len(record.user_id) <= MAX_ID:
        return None  # a visitor's
    return PeerSession(
        *(peer, record.user_id, record.id, record.expires_at),
        *(record.ip_address, record.user_agent),
    )


class BetterAuthRecord:
    """A record of Better Auth's (PEER-06), which may have any fields."""

    def __init__(self, session: dict[str, Any], user: dict[str, Any] | None) -> None:
        self._session = session
        self._user = user
        self.user_id = read_id(session.get("userId"))

    @classmethod
    def read(cls, text: str | None) -> "BetterAuthRecord | None":
        """None if it is no record of a session (PEER-10)."""
        try:
            fields = load(text or "")
        except ValueError:
            return None
        session, user = fields.get("session"), fields.get("user")
        if not isinstance(session, dict) or not isinstance(user, dict | None):
            return None
        return cls(session, user)

    def session(
        self, peer: str, token: str | None, now: datetime, mark: str | None = None
    ) -> PeerSession | None:
        """The session of ``token``, if it counts: PEER-08 to PEER-12. ``mark`` is what stands at
        ``revoked-sessions-before-{userId}``.
        """
        expires_at = time_of(self._session.get("expiresAt"))
        session_id = read_id(self._session.get("id"))
        if self.user_id is None or session_id is None:
            return None
        if expires_at is None or expires_at <= now or self._session.get("token") != token:
            return None
        if self._is_revoked(mark) or self._is_refused(now):
            return None
        address, agent = map(text_or_none, map(self._session.get, ("ipAddress", "userAgent")))
        claims = self._user or {}
        return PeerSession(peer, self.user_id, session_id, expires_at, address, agent, claims)

    def _is_revoked(self, mark: str | None) -> bool:
        """Did it begin before all were revoked (PEER-08)? A mark that is no number is none."""
        if mark is None or not (mark.isascii() and mark.isdecimal() and len(mark) < 20):
            return False
        created_at = time_of(self._session.get("createdAt"))
        # Whoever does not say when it began cannot say that it was later.
        return created_at is None or to_milliseconds(created_at - EPOCH, "createdAt") < int(mark)

    def _is_refused(self, now: datetime) -> bool:
        """Is the user another one (PEER-09), or banned (PEER-12)?"""
        if self._user is None:
            return False  # PEER-11: the session says whose it is
        if read_id(self._user.get("id")) != self.user_id:
            return True
        if not self._user.get("banned"):
            return False
        ends_at = time_of(self._user.get("banExpires"))
        return ends_at is None or ends_at > now


def read_id(value: Any) -> str | None:
    """An id as text: databases may have numbers (IMP-10)."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def time_of(value: Any) -> datetime | None:
    try:
        return read_time(value)
    except ValueError:
        return None


def text_or_none(value: Any) -> str | None:
    """Text; what is empty is none (PEER-06)."""
    return value if isinstance(value, str) and value else None
