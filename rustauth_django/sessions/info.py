"""What users and receivers of signals are shown of a session."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from django.utils.timezone import make_naive

from ..conf import of_django
from .agents import describe_agent
from .index import Indexed
from .records import NOWHERE, Session

#: Why sessions ended before their time: a call of one of the functions, a new password, a user who
#: may no longer sign in or who was deleted, more sessions than MAX_PER_USER, a command.
Reason: TypeAlias = Literal[
    "revoked", "password_changed", "user_deactivated", "user_deleted", "too_many", "operator"
]


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session, for its user to see. ``device`` describes the user agent in words. Times are aware
    if USE_TZ is on, as Django's are.

    ``id`` names it on pages and in APIs, so that the token is not shown. ``ip_address`` and
    ``user_agent`` are those of the sign-in, ``last_ip_address`` and ``last_user_agent`` those of
    the last visit; None if they are not known.
    """

    id: str
    created_at: datetime
    last_seen: datetime
    expires_at: datetime
    ip_address: str | None = field(repr=False)
    user_agent: str | None
    last_ip_address: str | None = field(repr=False)
    last_user_agent: str | None
    is_current: bool

    @property
    def device(self) -> str:
        return describe_agent(self.user_agent)

    @classmethod
    def of(cls, session: Session, *, is_current: bool) -> "SessionInfo":
        """The session as it was read."""
        record, part = session
        client = part.client if part else NOWHERE
        return cls(
            id=record.id,
            created_at=_shown(record.created_at),
            last_seen=_shown(part.seen_at if part else record.updated_at),
            expires_at=_shown(session.expires_at),
            ip_address=record.ip_address,
            user_agent=record.user_agent,
            last_ip_address=client.address,
            last_user_agent=client.agent,
            is_current=is_current,
        )


def _shown(time: datetime) -> datetime:
    return time if of_django("USE_TZ") else make_naive(time)


def facts_of_ended(ended: Iterable[Indexed], reason: Reason) -> dict[str, Any]:
    """The arguments of ``sessions_revoked``, but for the user."""
    records = [record for _, record in ended]
    ids = [record.id for record in records if record]
    return {"count": len(records), "ids": ids, "reason": reason}
