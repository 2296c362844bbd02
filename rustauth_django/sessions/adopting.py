"""Taking over the sessions of another engine, one by one, as their browsers come back.

A session that is taken over is stored here under a new token and ended there. A pointer, under a
hash of the old key, leads requests that still have the old key to it: those of the same page, and
those after a view that failed. It is set before the session is stored, so that parallel requests
agree on one token, and it is marked once that is done: then a session that is not there has ended,
and is not taken over again.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.signed_cookies import SessionStore as SignedCookies
from django.core import signing
from django.core.exceptions import SuspiciousOperation
from django.utils.module_loading import import_string
from django.utils.timezone import is_aware, make_aware

from ..engine.keyspace import Keyspace
from ..engine.operations import CompareAndSet, Get, Set
from ..engine.plans import Call
from .index import SessionPlan, UserSessions, new_token
from .records import DjangoPart, Session, SessionRecord

# A signed cookie may be as long as browsers let it be.
MAX_KEY = 4096
# How long requests may come with an old key.
POINTER_AGE = timedelta(days=1)
DONE = "+"


class Old(NamedTuple):
    """A session of the other engine: its content, and when it ends."""

    data: dict[str, Any]
    expires_at: datetime


class Adoption:
    """Takes over sessions of ``engine``, a class of session stores."""

    def __init__(self, engine: type[SessionBase], keyspace: Keyspace) -> None:
        self._engine = engine
        self._pointers = keyspace.for_django()
        #: The key is all that there is of such a session, so that only the pointer can end it.
        self._is_endless = issubclass(engine, SignedCookies)

    def find(
        self,
        sessions: UserSessions,
        key: str,
        begin: Callable[[Old, str], tuple[SessionRecord, DjangoPart]],
    ) -> "SessionPlan[Session | None]":
        """The session that takes the place of the one with this key; None if there is none.

        ``begin`` makes a session of the old one, under a token.
        """
        pointer, old = self._pointer(key), None
        token = yield Get(pointer)
        if token is None:
            old = yield from self._load(sessions, key)
            if old is None:
                # Perhaps it was taken over just now.
                token = yield Get(pointer)
            else:
                token = new_token()
                if not (yield Set(pointer, token, self._age_ms(sessions, old), "absent")):
                    token = yield Get(pointer)
        if token is None:
            return None
        is_done, token = token.endswith(DONE), token.removesuffix(DONE)
        session = yield from sessions.find(token)
        if session is None and not is_done:
            old = old or (yield from self._load(sessions, key))
            if old is not None and not (
                yield from self._begin(sessions, key, token, begin(old, token), old)
            ):
                return None
            # If it is gone there, another request has stored it here.
            session = yield from sessions.find(token)
        yield from self._end(key)
        return session

    def _begin(
        self,
        sessions: UserSessions,
        key: str,
        token: str,
        session: tuple[SessionRecord, DjangoPart],
        old: Old,
    ) -> SessionPlan[bool]:
        """Store the session, unless another request did. False if it has ended since then."""
        pointer = self._pointer(key)
        if (yield Get(pointer)) != token:
            return True
        if (yield from sessions.put(*session, "NX")) is None:
            return True
        if (yield CompareAndSet(pointer, token, token + DONE, self._age_ms(sessions, old))):
            return True
        # It had been stored before, and was not there any more.
        yield from sessions.remove(token)
        return False

    def end(self, sessions: UserSessions, key: str) -> SessionPlan[None]:
        """End the session with this key, here or there."""
        token = yield Get(self._pointer(key))
        if token is not None:
            yield from sessions.remove(token.removesuffix(DONE))
        elif self._is_endless:
            old = yield from self._load(sessions, key)
            if old is not None:
                yield Set(self._pointer(key), new_token() + DONE, self._age_ms(sessions, old))
        yield from self._end(key)

    def _load(self, sessions: UserSessions, key: str) -> "SessionPlan[Old | None]":
        """The session that the other engine has under this key."""
        old = self._engine(key)
        # Some engines begin a session if there is none to load.
        expires_at = yield from self._expiry_of(sessions, old, key)
        if expires_at is None:
            return None
        data = yield Call(old.load, twin=old.aload)
        return Old(data, expires_at) if data and old.session_key == key else None

    def is_there(self, sessions: UserSessions, key: str) -> SessionPlan[bool]:
        """Does the other engine have a session with this key?"""
        return (yield from self._expiry_of(sessions, self._engine(key), key)) is not None

    def _expiry_of(
        self, sessions: UserSessions, old: SessionBase, key: str
    ) -> "SessionPlan[datetime | None]":
        try:
            expires_at: datetime | None = yield Call(expiry_of, (old, key))
        except (SuspiciousOperation, ValueError):  # no key of this engine's
            return None
        except FileNotFoundError:  # another request has taken it over since
            return None
        return expires_at if expires_at and expires_at > sessions.clock() else None

    def _end(self, key: str) -> SessionPlan[None]:
        if not self._is_endless:
            old = self._engine(key)
            with suppress(SuspiciousOperation):
                yield Call(old.delete, (key,), twin=old.adelete)

    def _age_ms(self, sessions: UserSessions, old: Old) -> int:
        left = old.expires_at - sessions.clock()
        age = left if self._is_endless else min(left, POINTER_AGE)
        return max(1000, age // timedelta(milliseconds=1))

    def _pointer(self, key: str) -> str:
        digest = hashlib.sha256(key.encode()).hexdigest()
        return self._pointers.physical(f"adopted:{digest}")


def adoption_on(settings: Any, stores: Any) -> Adoption | None:
    """The adoption that the settings want, for ``get_feature``."""
    if settings.sessions.adopt is None:
        return None
    return Adoption(settings.sessions.adopt, stores.secondary_storage.keyspace)


def is_old_key(key: Any) -> bool:
    """Could this be a key of another engine?"""
    return isinstance(key, str) and 8 <= len(key) <= MAX_KEY and key.isascii() and key.isprintable()


def expiry_of(old: SessionBase, key: str) -> datetime | None:
    """When the session of another engine that has this key ends, as far as that can be known; None
    if there is none.

    The row of a table says so, the signature of a cookie, the time of a file, or the TTL that some
    caches tell. Otherwise it lasts as if it had been saved now.
    """
    model = getattr(old, "model", None) or _model_beside(old)
    if model is not None:
        rows = model._default_manager.filter(session_key=key)
        found = rows.values_list("expire_date", flat=True).first()
        return found and _aware(found)
    lasts = timedelta(seconds=old.get_session_cookie_age())
    if isinstance(old, SignedCookies):
        return _signed_at(key) + lasts
    if not old.exists(key):
        return None
    if hasattr(old, "_last_modification"):
        return _aware(old._last_modification()) + lasts
    if hasattr(getattr(old, "_cache", None), "ttl"):
        seconds = old._cache.ttl(old.cache_key)  # type: ignore[attr-defined]
        lasts = lasts if seconds is None else timedelta(seconds=seconds)
    return datetime.now(UTC) + lasts


def _signed_at(key: str) -> datetime:
    """The time that ``TimestampSigner`` has written into a signed cookie; long ago if there is
    none.
    """
    try:
        return datetime.fromtimestamp(signing.b62_decode(key.split(":")[-2]), UTC)
    except (IndexError, ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def _aware(time: datetime) -> datetime:
    return time if is_aware(time) else make_aware(time)


def _model_beside(old: SessionBase) -> Any:
    """The model that is imported in the module of an engine, if it has one."""
    try:
        return import_string(f"{type(old).__module__}.Session")
    except ImportError:
        return None
