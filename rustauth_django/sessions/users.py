"""The sessions of a user: listed for their owner, and ended."""

from collections.abc import Iterable
from typing import Any

from django.http import HttpRequest

from ..audit import record_revoked
from ..connections import arun, get_feature, run
from ..signals import sessions_revoked
from .cookies import unsign
from .current import current_session
from .identity import user_id_of
from .index import Indexed, SessionPlan
from .info import Reason, SessionInfo, facts_of_ended
from .records import Session
from .stored import sessions_on


def list_sessions(user: Any, request: HttpRequest | None = None) -> list[SessionInfo]:
    """The live sessions of a user, oldest first; that of ``request`` is marked as current."""
    return _infos(run(get_feature(sessions_on).of_user(user_id_of(user.pk))), request)


async def alist_sessions(user: Any, request: HttpRequest | None = None) -> list[SessionInfo]:
    return _infos(await arun(get_feature(sessions_on).of_user(user_id_of(user.pk))), request)


def revoke_session(user: Any, id: str) -> bool:
    """End one session of a user's, by its ``id``, its key or its token. Was there one? (SESS-19)

    To end the session of the current request is a ``flush``, here and below.
    """
    user_id = user_id_of(user.pk)
    return tell(user, user_id, run(_revoking_one(user_id, id))) > 0


async def arevoke_session(user: Any, id: str) -> bool:
    user_id = user_id_of(user.pk)
    return await atell(user, user_id, await arun(_revoking_one(user_id, id))) > 0


def revoke_sessions(user: Any) -> int:
    """End all sessions of a user. How many there were."""
    user_id = user_id_of(user.pk)
    return tell(user, user_id, run(revoking_but(user_id, None)))


async def arevoke_sessions(user: Any) -> int:
    user_id = user_id_of(user.pk)
    return await atell(user, user_id, await arun(revoking_but(user_id, None)))


def revoke_other_sessions(request: HttpRequest) -> int:
    """End all sessions of ``request.user`` but the one of ``request``. How many there were."""
    user, user_id = request.user, user_id_of(request.user.pk)
    return tell(user, user_id, run(revoking_but(user_id, own_token(request))))


async def arevoke_other_sessions(request: HttpRequest) -> int:
    user = await request.auser()
    user_id = user_id_of(user.pk)
    return await atell(user, user_id, await arun(revoking_but(user_id, own_token(request))))


def own_token(request: HttpRequest | None) -> str | None:
    """The token of the session of a request."""
    return None if request is None else unsign(request.session.session_key)


def _infos(sessions: Iterable[Session], request: HttpRequest | None) -> list[SessionInfo]:
    current = own_token(request)
    return [SessionInfo.of(one, is_current=one.record.token == current) for one in sessions]


def _revoking_one(user_id: str, id: str) -> SessionPlan[list[Indexed]]:
    sessions, names = get_feature(sessions_on), {id, unsign(id)}
    ended: list[Indexed] = []
    while True:
        meant = [
            (token, record)
            for token, record in (yield from sessions.indexed(user_id))
            if record and record.user_id == user_id and names & {record.id, token}
        ]
        if not meant:
            return ended
        ended += yield from sessions.end(user_id, meant)
        # If it gets a new key meanwhile, its id stays.
        names |= {record.id for _, record in meant}


def revoking_but(user_id: str, spared: str | None) -> SessionPlan[list[Indexed]]:
    """End all sessions of a user but the one with this token."""
    return get_feature(sessions_on).revoke(user_id, spared)


def tell(user: Any, user_id: str, ended: list[Indexed], reason: Reason = "revoked") -> int:
    """Let everybody know who has to: the current request, if it was its session, the audit log and
    the receivers of the signal. How many sessions were ended.
    """
    if _note(user_id, ended):
        sessions_revoked.send_robust(user.__class__, user=user, **facts_of_ended(ended, reason))
    return len(ended)


async def atell(user: Any, user_id: str, ended: list[Indexed], reason: Reason = "revoked") -> int:
    if _note(user_id, ended):
        await sessions_revoked.asend_robust(
            user.__class__, user=user, **facts_of_ended(ended, reason)
        )
    return len(ended)


def _note(user_id: str, ended: list[Indexed]) -> bool:
    session = current_session()
    if session is not None and session.token in {token for token, _ in ended}:
        session.end()
    if ended:
        record_revoked(user_id, len(ended))
    return bool(ended)
