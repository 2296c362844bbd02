"""The session engine: Django's sessions, on the stores of ``settings.RUSTAUTH``."""

import logging
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.utils.module_loading import import_string
from django.utils.timezone import is_aware, make_aware

from ..conf import get_settings, of_django
from ..connections import arun, get_feature, run
from ..exceptions import BackendError
from .agents import MAX_AGENT
from .cookies import sign, unsign
from .current import begin_session
from .identity import user_id_of
from .index import SessionPlan, UserSessions, new_id, new_token, sessions_on
from .records import DjangoPart, Session, SessionRecord

logger = logging.getLogger("rustauth_django")


def user_sessions() -> UserSessions:
    """The sessions on the stores of the settings."""
    return get_feature(sessions_on)


def read_data(part: DjangoPart) -> dict[str, Any] | None:
    """The dictionary in a session; None if it cannot be read."""
    serializer = import_string(of_django("SESSION_SERIALIZER"))
    try:
        data = serializer().loads(part.data)
    except Exception as error:  # noqa: BLE001  # as Django does; a serializer may raise anything
        logger.warning("The data of a session could not be read: %s", type(error).__name__)
        return None
    return data if isinstance(data, dict) else None


class Client(NamedTuple):
    """Where a request came from."""

    address: str | None
    agent: str | None


class SessionStore(SessionBase):
    """Django's session, on the server; without SQL, without threads.

    ``session_key`` is the token with its signature. ``save`` writes what was changed, and never
    brings a revoked session back (QUIRK-03): it raises ``UpdateError``, which Django's middleware
    answers with a 400. To prolong a session writes its times alone, and no request fails if that
    cannot be done. While the server is away, ``BackendUnavailable`` is raised.
    """

    def __init__(self, session_key: str | None = None) -> None:
        self._token: str | None = None
        #: The session as it was last read or written.
        self._found: Session | None = None
        #: Its content then, as the serializer writes it.
        self._content = b""
        #: Was a Django user signed in then?
        self._had_user = False
        self._signed_in_from: Client | None = None
        super().__init__(session_key)
        begin_session(self)

    @property
    def token(self) -> str | None:
        """The name of the session on the server."""
        return self._token

    def _validate_session_key(self, key: Any) -> bool:
        # Whenever a key is set it comes by here.
        self._token = unsign(key)
        return self._token is not None

    def _get_new_session_key(self) -> str:
        # ``create`` finds out in the same step whether the key is new.
        return sign(new_token())

    def sign_in_from(self, address: str | None, agent: str | None) -> None:
        """Note from where a user signs in; kept with the next ``save``."""
        self._signed_in_from = Client(address, agent and agent[:MAX_AGENT])

    def exists(self, session_key: str) -> bool:
        return run(user_sessions().find(unsign(session_key) or "")) is not None

    async def aexists(self, session_key: str) -> bool:
        return await arun(user_sessions().find(unsign(session_key) or "")) is not None

    def load(self) -> dict[str, Any]:
        return self._loaded(run(user_sessions().find(self._token or "")))

    async def aload(self) -> dict[str, Any]:
        return self._loaded(await arun(user_sessions().find(self._token or "")))

    def _loaded(self, session: Session | None) -> dict[str, Any]:
        self._found = session
        if session is None:
            self._session_key = None
            return {}
        data = self._read(session.part)
        if self._is_due(session, data):
            # A visit prolongs the session (SESS-20), and the cookie with it.
            self.modified = True
        return data

    def _read(self, part: DjangoPart | None) -> dict[str, Any]:
        """The dictionary in a session; an empty one if there is none that can be read."""
        data = {} if part is None else read_data(part)
        # Perhaps, if it cannot be read; in any case nobody is signed in from now on.
        self._had_user = data is None or SESSION_KEY in data
        if data is None or part is None:
            self._content = self.serializer().dumps({})
        else:
            self._content = part.data
        return data or {}

    def _is_due(self, session: Session, data: Mapping[str, Any]) -> bool:
        update_age = get_settings().sessions.update_age
        if update_age is None or self._is_rustauths(session, data):
            return False
        age = user_sessions().clock() - session.record.updated_at
        return age >= timedelta(seconds=update_age)

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
            run(self._saving(data, must_create=must_create))

    async def asave(self, must_create: bool = False) -> None:
        if self.session_key is None:
            await self.acreate()
        else:
            data = await self._aget_session(no_load=must_create)  # type: ignore[attr-defined]
            await arun(self._saving(data, must_create=must_create))

    def _saving(self, data: dict[str, Any], *, must_create: bool) -> "SessionPlan[None]":
        if self._token is None:
            raise UpdateError  # it did not exist when it was read
        before = self._found
        if before is None and not must_create:
            # The content was replaced before it was read.
            before = yield from user_sessions().find(self._token)
            if before is None:
                raise UpdateError
            self._read(before.part)
        written = self.serializer().dumps(data)
        if before is not None and not must_create:
            if self._is_rustauths(before, data):
                yield from self._keeping(before, written)
                return
            if before.part and written == self._content and self._signed_in_from is None:
                yield from self._touching(before, before.part, data)
                return
        record, part = self._made(before, data, written, self._token)
        if not (yield from user_sessions().put(record, part, "NX" if must_create else "XX")):
            raise CreateError if must_create else UpdateError
        self._found, self._signed_in_from = Session(record, part), None
        self._content, self._had_user = written, SESSION_KEY in data
        old = before and before.record
        if old and old.token == record.token and old.user_id not in ("", record.user_id):
            yield from user_sessions().leave_index(old.user_id, old.token)

    def _keeping(self, before: Session, written: bytes) -> "SessionPlan[None]":
        """Save what Django adds to a session of a RustAuth service."""
        if written == self._content:
            return
        part = DjangoPart(written, user_sessions().clock())
        if not (yield from user_sessions().put(before.record, part, "KEEP")):
            raise UpdateError
        self._found, self._content = Session(before.record, part), written

    def _touching(
        self, before: Session, part: DjangoPart, data: dict[str, Any]
    ) -> "SessionPlan[None]":
        """Prolong a session that was not changed. If it was ended meanwhile, nothing is lost."""
        record, part = self._made(before, data, part.data, before.record.token)
        try:
            is_there = yield from user_sessions().touch(record, part)
        except BackendError as error:
            logger.warning("A session could not be prolonged: %s", error.reason)
            return
        if is_there:
            self._found = Session(record, part)

    def _made(
        self, before: Session | None, data: dict[str, Any], written: bytes, token: str
    ) -> tuple[SessionRecord, DjangoPart]:
        """The session as it is to be written."""
        now = user_sessions().clock()
        old = (
            before.record if before else SessionRecord(new_id(), "", now, "", None, None, now, now)
        )
        sign_in = self._signed_in_from
        client = sign_in or Client(old.ip_address, old.user_agent)
        # A session that a RustAuth service began stays with its user.
        user_id = "" if self._had_user else old.user_id
        if SESSION_KEY in data:
            user_id = user_id_of(data[SESSION_KEY])
        record = replace(
            old,
            user_id=user_id,
            expires_at=self._expires_at(data, now),
            token=token,
            ip_address=client.address,
            user_agent=client.agent,
            created_at=now if sign_in else old.created_at,
            updated_at=now,
        )
        return record, DjangoPart(written, now)

    def _expires_at(self, data: Mapping[str, Any], now: datetime) -> datetime:
        expires_at = self.get_expiry_date(modification=now, expiry=data.get("_session_expiry"))
        return expires_at if is_aware(expires_at) else make_aware(expires_at)

    def delete(self, session_key: str | None = None) -> None:
        run(self._deleting(session_key))

    async def adelete(self, session_key: str | None = None) -> None:
        await arun(self._deleting(session_key))

    def _deleting(self, session_key: str | None) -> "SessionPlan[None]":
        token, user_id = unsign(session_key), None
        if session_key in (None, self.session_key):
            token = self._token
            user_id = self._found and self._found.record.user_id
            self._forget()
        yield from user_sessions().remove(token or "", user_id)

    def _forget(self) -> None:
        self._found, self._signed_in_from, self._had_user = None, None, False

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

    async def acycle_key(self) -> None:
        data = await self._aget_session()  # type: ignore[attr-defined]
        match await arun(self._moving(data)):
            case "ended":
                await self.aflush()
                await self.acreate()
            case "unknown":
                await self.acreate()

    def _moving(self, data: dict[str, Any]) -> "SessionPlan[str]":
        """Give the session a new key.

        The result is "moved", "unknown" if it has to be created, and "ended" if it was revoked
        since it was read, so that it must end here as well (QUIRK-03). If another request has moved
        it first, that one has its id, and this one becomes a session of its own.
        """
        before = self._found
        if before is None:
            return "unknown"
        written = self.serializer().dumps(data)
        record, part = self._made(before, data, written, new_token())
        if (yield from user_sessions().move(before.record, record, part)):
            self._found, self._session_key = Session(record, part), sign(record.token)
            self._signed_in_from, self._content, self.modified = None, written, True
            return "moved"
        if before.record.user_id:
            indexed = yield from user_sessions().indexed(before.record.user_id)
            if not any(one and one.id == before.record.id for _, one in indexed):
                return "ended"
        self._found = before._replace(record=replace(before.record, id=new_id()))
        return "unknown"

    @classmethod
    def clear_expired(cls) -> None:
        """Nothing to do: the server drops expired sessions. For ``manage.py clearsessions``."""
        sys.stdout.write("Nothing to clear: the server removes sessions as they expire.\n")

    @classmethod
    async def aclear_expired(cls) -> None:
        cls.clear_expired()
