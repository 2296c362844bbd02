"""The session engine: Django's sessions, on the stores of ``settings.RUSTAUTH``."""

import logging
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.contrib.sessions.serializers import JSONSerializer
from django.dispatch import Signal
from django.http import HttpRequest
from django.utils.timezone import is_aware, make_aware

from ..audit import record_revoked
from ..conf import get_settings
from ..connections import arun, get_feature, get_guard, run
from ..exceptions import BackendError
from ..signals import session_moved, session_started, sessions_revoked
from .adopting import Old, adoption_on, is_old_key
from .agents import MAX_AGENT
from .cookies import sign, unsign
from .current import begin_session
from .identity import user_id_of
from .index import Indexed, SessionPlan, UserSessions, new_id, new_token
from .info import SessionInfo, facts_of_ended
from .operations import How
from .records import NOWHERE, Client, DjangoPart, Session, SessionRecord
from .stored import StoredSessions, sessions_on

logger = logging.getLogger("rustauth_django")


def user_sessions() -> UserSessions:
    """The sessions on the stores of the settings."""
    return get_feature(sessions_on)


def read_data(content: bytes, serializer: Any) -> dict[str, Any] | None:
    """The dictionary that a serializer has written; None if it cannot be read."""
    try:
        data = serializer().loads(content)
    except Exception as error:  # noqa: BLE001  # as Django does; a serializer may raise anything
        logger.warning("The data of a session could not be read: %s", type(error).__name__)
        return None
    return data if isinstance(data, dict) else None


def is_same(one: Any, other: Any) -> bool:
    """Are two values alike in all of their parts, and of the same types? 1 is not True."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == other)


class SignIn(NamedTuple):
    """Where a user has signed in; is the browser new to this account?"""

    client: Client
    user: Any
    is_new_device: bool


class Event(NamedTuple):
    """A signal to send once a session is saved, about a ``user`` or the user of a ``request``."""

    signal: Signal
    facts: dict[str, Any]
    user: Any = None
    request: HttpRequest | None = None


def client_of(request: HttpRequest) -> Client:
    """Where a request came from, as far as the site keeps that."""
    visitors = get_guard().options.visitors
    address = visitors.addresses.resolve(request.META) if visitors.track_ip else None
    agent = request.META.get("HTTP_USER_AGENT", "")
    return Client(address, agent[:MAX_AGENT] or None)


def is_past(since: datetime, seconds: float | None, now: datetime) -> bool:
    """Have so many seconds passed? Never, if there are none."""
    return seconds is not None and now - since >= timedelta(seconds=seconds)


class SessionStore(SessionBase):
    """Django's session, on the server.

    ``session_key`` is the token with its signature. ``save`` writes what was changed, and never
    brings a revoked session back (QUIRK-03): it raises ``UpdateError``, which Django's middleware
    answers with a 400. To prolong a session writes its times alone, and no request fails if that
    cannot be done. While the server is away, ``BackendUnavailable`` is raised.
    """

    def __init__(self, session_key: str | None = None) -> None:
        self._token: str | None = None
        #: A key that was not signed here: perhaps of another engine's session, to be taken over.
        self._old_key: str | None = None
        self._is_new_here = False
        #: The session as it was last read or written.
        self._found: Session | None = None
        #: Its content then, as the serializer writes it.
        self._content = b""
        #: Was a Django user signed in then?
        self._had_user = False
        self._sign_in: SignIn | None = None
        #: The request that visits the session, and where it came from.
        self._visit: tuple[HttpRequest, Client] | None = None
        super().__init__(session_key)
        begin_session(self)

    @property
    def token(self) -> str | None:
        """The name of the session on the server."""
        return self._token

    @property
    def id(self) -> str | None:
        """The id of the session, as pages and signals name it; None if it was not read yet."""
        return self._found and self._found.record.id

    def _validate_session_key(self, key: Any) -> bool:
        # Whenever a key is set it comes by here.
        self._token = unsign(key)
        self._old_key = key if self._token is None and is_old_key(key) else None
        # As in Django's engines, a key that names nothing is one until it is looked up.
        return self._token is not None or self._old_key is not None

    def _get_new_session_key(self) -> str:
        # ``create`` finds out in the same step whether the key is new.
        return sign(new_token())

    def sign_in(self, sign_in: SignIn) -> None:
        """Note who signs in, and from where; kept with the next ``save``."""
        self._sign_in = sign_in

    def visited_by(self, request: HttpRequest) -> None:
        """Note where the session is seen, if somebody is signed in and it was read; kept with the
        next ``save``, which is due if it was seen elsewhere before.
        """
        if self._found is None or self._found.part is None or not self._had_user:
            return
        client = client_of(request)
        self._visit = request, client
        if client != self._found.part.client:
            self.modified = True

    def exists(self, session_key: str) -> bool:
        return run(self._existing(session_key))

    async def aexists(self, session_key: str) -> bool:
        return await arun(self._existing(session_key))

    def _existing(self, session_key: str) -> SessionPlan[bool]:
        token, adoption = unsign(session_key), get_feature(adoption_on)
        if token is None and adoption is not None and is_old_key(session_key):
            return (yield from adoption.is_there(user_sessions(), session_key))
        return (yield from user_sessions().find(token or "")) is not None

    def load(self) -> dict[str, Any]:
        return self._loaded(run(self._finding()))

    async def aload(self) -> dict[str, Any]:
        return self._loaded(await arun(self._finding()))

    def _finding(self) -> "SessionPlan[Session | None]":
        """The session of this key, or that in which another engine's is taken over."""
        adoption = get_feature(adoption_on)
        if adoption is None or self._old_key is None:
            return (yield from user_sessions().find(self._token or ""))
        session = yield from adoption.find(user_sessions(), self._old_key, self._taken_over)
        if session is not None:
            self._session_key = sign(session.record.token)
            # The browser gets the new key with this response.
            self.modified = self._is_new_here = True
        return session

    def _taken_over(self, old: Old, token: str) -> tuple[SessionRecord, DjangoPart]:
        """A session with the content of another engine's, and with its end."""
        record, part = self._made(None, old.data, self.serializer().dumps(old.data), token)
        return record._replace(expires_at=min(record.expires_at, old.expires_at)), part

    def _loaded(self, session: Session | None) -> dict[str, Any]:
        data = self._read(session.part) if session else {}
        now = user_sessions().clock()
        if session is None or self._is_over(session, data, now):
            self._forget()
            self._session_key = None
            return {}
        self._found = session
        if len(get_settings().sessions.cookie_secrets) > 1 and self._token:
            fresh = sign(self._token)
            if fresh != self.session_key:
                # It was signed under a secret that will be gone.
                self._session_key, self.modified = fresh, True
        if self._is_due(session, data, now):
            self.modified = True  # which renews the cookie, too
        return data

    def _read(self, part: DjangoPart | None) -> dict[str, Any]:
        """The dictionary in a session; an empty one if there is none that can be read."""
        data = {} if part is None else read_data(part.data, self.serializer)
        # Perhaps, if it cannot be read; in any case nobody is signed in from now on.
        self._had_user = data is None or SESSION_KEY in data
        if data is None or part is None:
            self._content = self.serializer().dumps({})
        else:
            self._content = part.data
        return data or {}

    def _is_due(self, session: Session, data: Mapping[str, Any], now: datetime) -> bool:
        """Does a visit prolong the session (SESS-20)?"""
        if session.part is None or self._is_rustauths(session, data):
            return False
        options = get_settings().sessions
        age: float | None = options.update_age
        if options.idle_age is not None and SESSION_KEY in data:
            # It is touched ten times as often as it could end.
            age = min(options.idle_age / 10, options.idle_age if age is None else age)
        # A refresh by a RustAuth service changes the record, but not when Django has seen it.
        return is_past(session.part.seen_at, age, now)

    def _is_over(self, session: Session, data: Mapping[str, Any], now: datetime) -> bool:
        """Has a session ended by the settings of today, though it was saved under others?"""
        options = get_settings().sessions
        if session.part is None or SESSION_KEY not in data:
            return False
        return is_past(session.part.seen_at, options.idle_age, now) or is_past(
            session.record.created_at, options.max_age, now
        )

    def _is_rustauths(self, session: Session, data: Mapping[str, Any]) -> bool:
        """Did a RustAuth service begin this session? It belongs to its user there, and only that
        service prolongs it.
        """
        return bool(session.record.user_id) and SESSION_KEY not in data and not self._had_user

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
            for event in run(self._saving(data, must_create=must_create)):
                user = getattr(event.request, "user", None) if event.request else event.user
                if user is not None and user.pk is not None:
                    event.signal.send_robust(user.__class__, **event.facts, user=user)
            if self._token is None:
                self.create()  # a receiver has ended the session, which goes on as an empty one

    async def asave(self, must_create: bool = False) -> None:
        if self.session_key is None:
            await self.acreate()
        else:
            data = await self._aget_session(no_load=must_create)  # type: ignore[attr-defined]
            for event in await arun(self._saving(data, must_create=must_create)):
                get_user = getattr(event.request, "auser", None)
                user = await get_user() if get_user else event.user
                if user is not None and user.pk is not None:
                    await event.signal.asend_robust(user.__class__, **event.facts, user=user)
            if self._token is None:
                await self.acreate()

    def _saving(self, data: dict[str, Any], *, must_create: bool) -> SessionPlan[list[Event]]:
        """Save, and tell which signals are to be sent."""
        before = self._found
        if before is None and not must_create:
            # It did not exist when it was read, or its content was replaced before that.
            before = yield from self._finding()
            if before is None:
                raise UpdateError
            self._read(before.part)
        assert self._token is not None
        written = self.serializer().dumps(data)
        if before is not None and not must_create:
            if self._is_rustauths(before, data):
                yield from self._keeping(before, written)
                return []
            if before.part and self._sign_in is None and self._is_same(data, written):
                if self._is_new_here:
                    self._is_new_here = False
                    return []  # it was stored just now, with the end that it had before
                return (yield from self._touching(before, before.part, data))
        if must_create and before and before.record.token:
            before = None  # this is another session, and has another id
        record, part = self._made(before, data, written, self._token)
        is_new_login = self._sign_in is not None or (
            before is None or before.record.user_id != record.user_id
        )
        how: How = "NX" if must_create else "XX"
        ended = yield from user_sessions().put(record, part, how, is_new_login=is_new_login)
        if ended is None:
            raise CreateError if must_create else UpdateError
        self._found = Session(record, part._replace(state=user_sessions().state))
        self._content, self._had_user = written, SESSION_KEY in data
        old = before and before.record
        if old and old.token == record.token and old.user_id not in ("", record.user_id):
            yield from user_sessions().leave_index(old.user_id, old.token)
        return [*self._moved(before), *self._started(ended)]

    def _is_same(self, data: dict[str, Any], written: bytes) -> bool:
        """Is the content what it was? Its bytes say so, if JSON wrote them. Other serializers may
        write the same content in several ways: encrypted, or with a set in another order.
        """
        if written == self._content:
            return True
        kind = self.serializer
        is_json = isinstance(kind, type) and issubclass(kind, JSONSerializer)
        return not is_json and is_same(read_data(self._content, kind), data)

    def _started(self, ended: list[Indexed]) -> Iterator[Event]:
        """What is told of a sign-in, and of the sessions that ended to make room for it."""
        sign_in, self._sign_in = self._sign_in, None
        if ended and self._found is not None:
            record_revoked(self._found.record.user_id, len(ended))
        if sign_in is None or self._found is None:
            return
        if ended:
            yield Event(sessions_revoked, facts_of_ended(ended, "too_many"), sign_in.user)
        info = SessionInfo.of(self._found, is_current=True)
        facts = {"session": info, "is_new_device": sign_in.is_new_device}
        yield Event(session_started, facts, sign_in.user)

    def _moved(self, before: Session | None) -> Iterator[Event]:
        """What is told of a session that was seen elsewhere before."""
        visit, self._visit = self._visit, None
        if not (visit and before and before.part and self._found and session_moved.receivers):
            return
        request, client = visit
        if self._sign_in is None and before.part.client not in (client, NOWHERE):
            info = SessionInfo.of(self._found, is_current=True)
            facts = {"session": info, "before": before.part.client}
            yield Event(session_moved, facts, request=request)

    def _keeping(self, before: Session, written: bytes) -> "SessionPlan[None]":
        """Save what Django adds to a session of a RustAuth service."""
        if written == self._content:
            return
        part = DjangoPart(written, user_sessions().clock())
        if (yield from user_sessions().put(before.record, part, "KEEP")) is None:
            raise UpdateError
        self._found, self._content = Session(before.record, part), written

    def _touching(
        self, before: Session, before_part: DjangoPart, data: dict[str, Any]
    ) -> SessionPlan[list[Event]]:
        """Prolong a session that was not changed. If it was ended meanwhile, or somebody else has
        written to it, nothing is lost.
        """
        record, part = self._made(before, data, before_part.data, before.record.token)
        try:
            is_there = yield from user_sessions().touch(record, part, before_part)
        except BackendError as error:
            logger.warning("A session could not be prolonged: %s", error.reason)
            return []
        if not is_there:
            return []
        self._found = Session(record, part)
        return list(self._moved(before))

    def _made(
        self, before: Session | None, data: dict[str, Any], written: bytes, token: str
    ) -> tuple[SessionRecord, DjangoPart]:
        """The session as it is to be written."""
        now = user_sessions().clock()
        old = (
            before.record if before else SessionRecord(new_id(), "", now, "", None, None, now, now)
        )
        sign_in = self._sign_in
        client = sign_in.client if sign_in else Client(old.ip_address, old.user_agent)
        # A session that a RustAuth service began stays with its user.
        user_id = "" if self._had_user else old.user_id
        if SESSION_KEY in data:
            user_id = user_id_of(data[SESSION_KEY])
        created_at = now if sign_in else old.created_at
        expires_at, ends_at = self._ends(data, now, created_at)
        record = old._replace(
            user_id=user_id,
            expires_at=expires_at,
            token=token,
            ip_address=client.address,
            user_agent=client.agent,
            created_at=created_at,
            updated_at=now,
        )
        seen = before.part.client if before and before.part else NOWHERE
        if self._visit is not None:
            seen = self._visit[1]
        elif sign_in is not None:
            seen = sign_in.client
        if before is None or before.part is None:
            return record, DjangoPart(written, now, *seen, ends_at)
        # Each write has another ``seen_at``, by which others see that there was one.
        seen_at = max(now, before.part.seen_at + timedelta(milliseconds=1))
        return record, DjangoPart(written, seen_at, *seen, ends_at, before.part.state)

    def _ends(
        self, data: Mapping[str, Any], now: datetime, created_at: datetime
    ) -> tuple[datetime, datetime | None]:
        """When the session ends if it is not seen again, and when at the latest."""
        expires_at = self.get_expiry_date(modification=now, expiry=data.get("_session_expiry"))
        if not is_aware(expires_at):
            expires_at = make_aware(expires_at)
        ends_at, options = None, get_settings().sessions
        if SESSION_KEY in data:
            if options.idle_age is not None:
                expires_at = min(expires_at, now + timedelta(seconds=options.idle_age))
            if options.max_age is not None:
                ends_at = created_at + timedelta(seconds=options.max_age)
                expires_at = min(expires_at, ends_at)
        return expires_at, ends_at

    def delete(self, session_key: str | None = None) -> None:
        run(self._deleting(session_key))

    async def adelete(self, session_key: str | None = None) -> None:
        await arun(self._deleting(session_key))

    def _deleting(self, session_key: str | None) -> "SessionPlan[None]":
        token, old_key, user_id = unsign(session_key), session_key, None
        if session_key in (None, self.session_key):
            token, old_key = self._token, self._old_key
            user_id = self._found and self._found.record.user_id
            self._forget()
        adoption = get_feature(adoption_on)
        if adoption is not None and token is None and is_old_key(old_key):
            yield from adoption.end(user_sessions(), old_key or "")
        yield from user_sessions().remove(token or "", user_id)

    def _forget(self) -> None:
        self._found, self._sign_in, self._visit, self._had_user = None, None, None, False

    def end(self) -> None:
        """What ``flush`` does, for a session that was removed already: what is put into it from
        now on begins another one.
        """
        self.clear()
        self._forget()
        self._session_key = None

    def cycle_key(self) -> None:
        data = self._get_session()  # type: ignore[attr-defined]
        match run(self._moving(data)):
            case "ended":
                self.flush()
                self.create()
            case "unknown":
                self.create()
            case SessionRecord() as other:
                self.create()
                if other.user_id and not run(user_sessions().has_moved(other)):
                    self.flush()
                    self.create()

    async def acycle_key(self) -> None:
        data = await self._aget_session()  # type: ignore[attr-defined]
        match await arun(self._moving(data)):
            case "ended":
                await self.aflush()
                await self.acreate()
            case "unknown":
                await self.acreate()
            case SessionRecord() as other:
                await self.acreate()
                if other.user_id and not await arun(user_sessions().has_moved(other)):
                    await self.aflush()
                    await self.acreate()

    def _moving(self, data: dict[str, Any]) -> "SessionPlan[str | SessionRecord]":
        """Give the session a new key.

        The result is "moved", "unknown" if it has to be created, and "ended" if it was revoked
        since it was read, so that it must end here as well (QUIRK-03). If another request has moved
        it first, that one has its id, and this one becomes a session of its own: the result is then
        the record of the other one. Whoever revokes that one while this is created has not seen
        this one, so it must be looked for once more.
        """
        before = self._found
        if before is None:
            return "unknown"
        written = self.serializer().dumps(data)
        record, part = self._made(before, data, written, new_token())
        if (yield from user_sessions().move(before.record, record, part)):
            self._found = Session(record, part._replace(state=user_sessions().state))
            self._session_key = sign(record.token)
            self._content, self.modified = written, True
            return "moved"
        if before.record.user_id and not (yield from user_sessions().has_moved(before.record)):
            return "ended"
        self._found = before._replace(record=before.record._replace(id=new_id(), token=""))
        return before.record

    @classmethod
    def clear_expired(cls) -> None:
        """Remove rows that have expired. The server does so by itself. For ``manage.py
        clearsessions``.
        """
        sessions = user_sessions()
        if isinstance(sessions, StoredSessions):
            sys.stdout.write(f"Removed {run(sessions.forget_expired()):,} expired sessions.\n")
        else:
            sys.stdout.write("Nothing to clear: the server removes sessions as they expire.\n")

    @classmethod
    async def aclear_expired(cls) -> None:
        await sync_to_async(cls.clear_expired)()
