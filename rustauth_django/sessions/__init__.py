"""Sessions that can be seen and revoked: ``SESSION_ENGINE = "rustauth_django.sessions"``.

Each session is a record that RustAuth's services can read (SESS-01) and that contains Django's own
dictionary. Each user has an index of their sessions. One GET loads it, one step saves it.
"""

import logging
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any, Literal, TypeVar

from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.http import HttpRequest
from django.utils.timezone import is_aware, make_aware

from ..audit import record_revoked
from ..conf import Settings, get_settings, of_django
from ..connections import get_feature, get_guard, get_stores
from ..engine.operations import Operation
from ..engine.plans import Plan, adrive, drive
from ..exceptions import BackendError
from ..limits.guard import django_request
from ..signals import sessions_revoked
from ..stores import RustAuthStores
from .agents import MAX_AGENT, describe_agent
from .index import UserSessions, is_token, new_id
from .records import SessionRecord

T = TypeVar("T")
SessionPlan = Plan[Operation[Any], T]

logger = logging.getLogger("rustauth_django")

# The session of the current request, which a change of password does not end.
current: ContextVar["SessionStore | None"] = ContextVar("current", default=None)


def run(plan: Plan[Operation[Any], T]) -> T:
    """Drive a plan on the stores of the settings, blocking."""
    return drive(plan, get_stores().backend.run)


async def arun(plan: Plan[Operation[Any], T]) -> T:
    """Drive a plan on the stores of the settings, awaiting."""
    return await adrive(plan, get_stores().backend.arun)


def _user_sessions(settings: Settings, stores: RustAuthStores) -> UserSessions:
    return UserSessions(stores.secondary_storage.keyspace)


def user_sessions() -> UserSessions:
    """The records and indexes, on the stores of the settings."""
    return get_feature(_user_sessions)


class SessionStore(SessionBase):
    """Django's session, on the stores of ``settings.RUSTAUTH``; without SQL, without threads.

    ``save`` never brings a revoked session back (QUIRK-03): it raises ``UpdateError``,
    which Django's middleware answers with a 400. What JSON cannot hold is an error there,
    too. While the server is away, ``BackendUnavailable`` is raised.
    """

    def __init__(self, session_key: str | None = None) -> None:
        self._record: SessionRecord | None = None
        self._client: tuple[str | None, str | None] | None = None
        # Was a Django user signed in when the session was last read or saved? And its whole
        # content, if it only has to be prolonged.
        self._had_user = False
        self._unchanged: dict[str, Any] | None = None
        super().__init__(session_key)
        if current.get() is None:
            current.set(self)

    def _validate_session_key(self, key: Any) -> bool:
        return is_token(key)

    def _get_new_session_key(self) -> str:
        # ``create`` finds out in the same step whether the key is new.
        return new_id()

    def seen_from(self, address: str | None, agent: str | None) -> None:
        """Note from where a user signed in; kept with the next ``save``."""
        self._client = address, agent and agent[:MAX_AGENT]

    def exists(self, session_key: str) -> bool:
        return run(user_sessions().find(session_key)) is not None

    async def aexists(self, session_key: str) -> bool:
        return await arun(user_sessions().find(session_key)) is not None

    def load(self) -> dict[str, Any]:
        return self._loaded(run(user_sessions().find(self.session_key or "")))

    async def aload(self) -> dict[str, Any]:
        return self._loaded(await arun(user_sessions().find(self.session_key or "")))

    def _loaded(self, record: SessionRecord | None) -> dict[str, Any]:
        self._record = record
        if record is None:
            self._session_key = None
            return {}
        data = record.data or {}
        self._had_user = SESSION_KEY in data
        if self._is_due(record, data):
            # A visit prolongs the session (SESS-20).
            self.modified, self._unchanged = True, deepcopy(data)
        return data

    def _is_due(self, record: SessionRecord, data: dict[str, Any]) -> bool:
        update_age = get_settings().sessions.update_age
        if update_age is None or "_session_expiry" in data:
            return False
        age = user_sessions().clock() - record.updated_at
        return age >= timedelta(seconds=update_age)

    def create(self) -> None:
        while True:
            self._session_key = self._get_new_session_key()
            try:
                self.save(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return

    async def acreate(self) -> None:
        while True:
            self._session_key = self._get_new_session_key()
            try:
                await self.asave(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return

    def save(self, must_create: bool = False) -> None:
        if self.session_key is None:
            self.create()
        else:
            data = self._get_session(no_load=must_create)  # type: ignore[attr-defined]  # stubs lack it
            run(self._saving(data, must_create=must_create))

    async def asave(self, must_create: bool = False) -> None:
        if self.session_key is None:
            await self.acreate()
        else:
            data = await self._aget_session(no_load=must_create)  # type: ignore[attr-defined]
            await arun(self._saving(data, must_create=must_create))

    def _saving(self, data: dict[str, Any], *, must_create: bool) -> "SessionPlan[None]":
        if self.session_key is None:
            raise UpdateError  # it did not exist when it was read
        before, record = self._record, self._make_record(data)
        only_if: Literal["absent", "present"] = "absent" if must_create else "present"
        if not (yield from user_sessions().put(record, only_if)):
            if must_create:
                raise CreateError
            if self._unchanged is not None and self._unchanged == data:
                return  # the view ended the session and changed nothing in it
            raise UpdateError
        self._record, self._client, self._unchanged = record, None, None
        self._had_user = SESSION_KEY in data
        if before and before.token == record.token and before.user_id not in ("", record.user_id):
            yield from user_sessions().leave_index(before.user_id, record.token)

    def _make_record(self, data: dict[str, Any]) -> SessionRecord:
        now = user_sessions().clock()
        assert self.session_key is not None
        before = self._record or SessionRecord(new_id(), "", now, "", None, None, now, now)
        address, agent = self._client or (before.ip_address, before.user_agent)
        # A session that a RustAuth service began stays with its user.
        user_id = data.get(SESSION_KEY, "" if self._had_user else before.user_id)
        expires_at = self.get_expiry_date(modification=now, expiry=data.get("_session_expiry"))
        return replace(
            before,
            user_id=str(user_id),
            expires_at=expires_at if is_aware(expires_at) else make_aware(expires_at),
            token=self.session_key,
            ip_address=address,
            user_agent=agent,
            created_at=now if self._client else before.created_at,
            updated_at=now,
            data=data,
        )

    def delete(self, session_key: str | None = None) -> None:
        run(self._deleting(session_key))

    async def adelete(self, session_key: str | None = None) -> None:
        await arun(self._deleting(session_key))

    def _deleting(self, session_key: str | None) -> "SessionPlan[None]":
        if session_key in (None, self.session_key):
            self._record, self._client, self._unchanged = None, None, None
            self._had_user = False
        yield from user_sessions().remove(session_key or self.session_key or "")

    def cycle_key(self) -> None:
        data, before = self._get_session(), self._record  # type: ignore[attr-defined]
        self.create()
        self._session_cache = data
        if before is not None and run(self._was_revoked(before)):
            self.flush()
            self.create()

    async def acycle_key(self) -> None:
        data, before = await self._aget_session(), self._record  # type: ignore[attr-defined]
        await self.acreate()
        self._session_cache = data
        if before is not None and await arun(self._was_revoked(before)):
            await self.aflush()
            await self.acreate()

    def _was_revoked(self, before: SessionRecord) -> "SessionPlan[bool]":
        """Remove the old key. True if the session was revoked since it was read, so that it must
        end (QUIRK-03). False if another request has moved the session to a new key first.
        """
        if (yield from user_sessions().remove(before.token)) or not before.user_id:
            return False
        records = yield from user_sessions().of_user(before.user_id)
        return not any(r.id == before.id and r.token != self.session_key for r in records)

    @classmethod
    def clear_expired(cls) -> None:
        """Nothing to do: the server drops expired sessions. For ``manage.py clearsessions``."""
        sys.stdout.write("Nothing to clear: the server removes sessions as they expire.\n")

    @classmethod
    async def aclear_expired(cls) -> None:
        cls.clear_expired()


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session, for its user to see. Times are aware; ``device`` describes the user agent in
    words.

    ``id`` names it on pages and in APIs, so that the token is not shown.
    """

    id: str
    created_at: datetime
    last_seen: datetime
    expires_at: datetime
    ip_address: str | None = field(repr=False)
    user_agent: str | None
    is_current: bool

    @property
    def device(self) -> str:
        return describe_agent(self.user_agent)


def list_sessions(user: Any, request: HttpRequest | None = None) -> list[SessionInfo]:
    """The live sessions of a user, oldest first; that of ``request`` is marked as current."""
    return _infos(run(user_sessions().of_user(str(user.pk))), request)


async def alist_sessions(user: Any, request: HttpRequest | None = None) -> list[SessionInfo]:
    return _infos(await arun(user_sessions().of_user(str(user.pk))), request)


def revoke_session(user: Any, id: str) -> bool:
    """End one session of a user's, by its ``id`` or its token. Was there one? (SESS-19)"""
    return _told(user, run(_revoking_one(str(user.pk), id))) > 0


async def arevoke_session(user: Any, id: str) -> bool:
    return await _atold(user, await arun(_revoking_one(str(user.pk), id))) > 0


def revoke_sessions(user: Any) -> int:
    """End all sessions of a user. How many there were."""
    return _told(user, run(user_sessions().revoke(str(user.pk))))


async def arevoke_sessions(user: Any) -> int:
    return await _atold(user, await arun(user_sessions().revoke(str(user.pk))))


def revoke_other_sessions(request: HttpRequest) -> int:
    """End all sessions of ``request.user`` but the one of ``request``. How many there were."""
    user, own = request.user, request.session.session_key
    return _told(user, run(user_sessions().revoke(str(user.pk), lambda one: one.token == own)))


async def arevoke_other_sessions(request: HttpRequest) -> int:
    user, own = await request.auser(), request.session.session_key
    revoking = user_sessions().revoke(str(user.pk), lambda one: one.token == own)
    return await _atold(user, await arun(revoking))


def _infos(records: Iterable[SessionRecord], request: HttpRequest | None) -> list[SessionInfo]:
    current = request.session.session_key if request is not None else None
    return [
        SessionInfo(
            id=record.id,
            created_at=record.created_at,
            last_seen=record.updated_at,
            expires_at=record.expires_at,
            ip_address=record.ip_address,
            user_agent=record.user_agent,
            is_current=record.token == current,
        )
        for record in records
    ]


def _revoking_one(user_id: str, id: str) -> "SessionPlan[int]":
    records = yield from user_sessions().of_user(user_id)
    tokens = [record.token for record in records if id in (record.id, record.token)]
    return (yield from user_sessions().revoke_tokens(user_id, tokens))


def _told(user: Any, count: int) -> int:
    if count:
        record_revoked(user.pk, count)
        sessions_revoked.send_robust(type(user), user=user, count=count)
    return count


async def _atold(user: Any, count: int) -> int:
    if count:
        record_revoked(user.pk, count)
        await sessions_revoked.asend_robust(type(user), user=user, count=count)
    return count


def note_client(*, request: Any, **kwargs: Any) -> None:
    """A receiver of ``user_logged_in``: notes the client's address and user agent."""
    request = django_request(request)
    session = getattr(request, "session", None)
    if request is not None and isinstance(session, SessionStore):
        visitors = get_guard().options.visitors
        address = visitors.addresses.resolve(request.META) if visitors.track_ip else None
        session.seen_from(address, request.headers.get("User-Agent"))


def forget_current(**kwargs: Any) -> None:
    """A receiver of ``request_started``: forgets the session of the thread's previous request."""
    current.set(None)


def revoke_on_change(*, instance: Any, created: bool, using: str, **kwargs: Any) -> None:
    """A receiver of ``post_save``.

    A new password ends all sessions but the one in which it was set; a user who may no longer
    sign in loses all.
    """
    if created or not is_user(instance):
        return
    if not getattr(instance, "is_active", True):
        _revoke_later(instance, using, None)
    # Django uses this attribute too: it is None if only the hash was upgraded.
    elif getattr(instance, "_password", None) is not None:
        _revoke_later(instance, using, current.get())


def revoke_on_delete(*, instance: Any, using: str, **kwargs: Any) -> None:
    """A receiver of ``post_delete``."""
    if is_user(instance):
        _revoke_later(instance, using, None)


def is_user(instance: Any) -> bool:
    """Is this a user (or of a proxy model) on a site that uses this session engine?"""
    try:
        if not isinstance(instance, get_user_model()):
            return False
    except ImproperlyConfigured:  # a site without users
        return False
    if not get_settings().sessions.revoke_on_change:
        return False
    engine = getattr(import_module(of_django("SESSION_ENGINE")), "SessionStore", None)
    return isinstance(engine, type) and issubclass(engine, SessionStore)


def _revoke_later(user: Any, using: str, but: SessionStore | None) -> None:
    """Revoke on commit. An outage does not fail the request, since Django refuses these sessions
    anyway.
    """
    user_id = str(user.pk)

    def revoke() -> None:
        # The id stays the same when the session gets a new key.
        spared = but and but._record
        revoking = user_sessions().revoke(user_id, lambda one: bool(spared and one.id == spared.id))
        try:
            _told(user, run(revoking))
        except BackendError as error:
            logger.error("Sessions could not be revoked: %s", error.reason)

    transaction.on_commit(revoke, using=using)
