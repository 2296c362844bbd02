"""Sessions as rows of a table: what is written, what is read, and which of them are alive.

Each function blocks. Plans call them by ``Call``, so that the async face has them run where
Django's own async methods run their queries.
"""

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from secrets import randbelow
from typing import Any, NamedTuple

from django.apps import apps
from django.db import IntegrityError, transaction
from django.db.models import F

from ..engine.durations import to_milliseconds
from ..engine.records import EPOCH, load
from .records import DjangoPart, Session, parse

SEALING = b"rustauth_django.sessions.rows"
# Rows are looked through so many at a time.
PAGE = 500


class Marked(NamedTuple):
    """A row with a change of which the server did not hear. ``token`` is None if it cannot be read,
    since the secret is another one by now; so is ``created_at`` if somebody else has written into
    the record.
    """

    key: str
    token: str | None
    user_id: str
    session_id: str
    is_ended: bool
    mark: int
    created_at: datetime | None


class Rows:
    """The table in the database ``alias``. Tokens are sealed with the first of the ``secrets``."""

    def __init__(self, alias: str, secrets: Sequence[bytes]) -> None:
        self._alias = alias
        self._secrets = secrets
        #: Called once a mark is in the table.
        self.on_mark: Callable[[], None] = lambda: None

    def find(self, token: str, now_ms: int) -> Session | None:
        """The session of a token, if it is alive."""
        row = self._alive(now_ms).filter(key=key_of(token)).first()
        return None if row is None else read(row, token)

    def page(self, after: str, now_ms: int) -> dict[str, str | None]:
        """Some of the sessions that are alive, in the order of their keys: those after this one.
        Each key with its token, or None if that cannot be read.
        """
        rows = self._alive(now_ms).filter(key__gt=after).order_by("key")
        found = rows.values_list("key", "sealed")[:PAGE]
        return {key: unseal(sealed, key, self._secrets) for key, sealed in found}

    def of_user(self, user_id: str, now_ms: int) -> list[tuple[str, Session]]:
        """The sessions of a user that are alive, each with its token."""
        found = [
            (unseal(row.sealed, row.key, self._secrets), row)
            for row in self._alive(now_ms, user_id)
        ]
        sessions = [(token, read(row, token)) for token, row in found if token is not None]
        return [(token, session) for token, session in sessions if session is not None]

    def has_id(self, user_id: str, session_id: str, now_ms: int) -> bool:
        """Has this user a session with this id?"""
        return bool(self._alive(now_ms, user_id).filter(session_id=session_id).exists())

    def insert(self, session: Session) -> bool:
        """Add a session. Is its token new?"""
        try:
            # A savepoint, since an error would end the caller's transaction.
            with transaction.atomic(using=self._alias):
                self._model(**self._columns(session)).save(force_insert=True, using=self._alias)
        except IntegrityError:
            return False
        return True

    def save(self, session: Session) -> bool:
        """Change a session, if it is alive. Is it?"""
        changed = self._columns(session)
        return bool(self._there(changed.pop("key")).update(**changed, mark=0))

    def touch(self, session: Session, before: DjangoPart | None) -> bool:
        """Change the times of a session, and where it was seen, if it is alive and, where
        ``before`` is given, nobody has written since it was read as that. Is that so?
        """
        changed = self._columns(session)
        rows = self._there(changed["key"])
        if before is not None:
            rows = rows.filter(visit=visit_of(before))
        names = ("record", "visit", "expires_at")
        return bool(rows.update(**{name: changed[name] for name in names}))

    def move(self, before: str, session: Session) -> bool:
        """Give a session another token, if it is alive. Is it?"""
        return bool(self._there(key_of(before)).update(**self._columns(session), mark=0))

    def confirm(self, token: str, part: DjangoPart) -> bool:
        """Is the row of a token alive, and as it was read? This is a write: it waits for the writes
        of others, and sees what they did.
        """
        rows = self._there(key_of(token)).filter(visit=visit_of(part))
        return bool(rows.update(mark=F("mark")))

    def mark(self, tokens: Iterable[str]) -> None:
        """The server did not hear of the last change of these sessions."""
        self._rows.filter(key__in=list(map(key_of, tokens))).update(mark=new_mark())
        self._marked()

    def bury(self, session: Session) -> None:
        """Keep the row of a session that has ended, since the server may still have it."""
        fields = self._columns(session)
        self._model(**fields, is_ended=True, mark=new_mark()).save(using=self._alias)
        self._marked()

    def end(self, tokens: Iterable[str]) -> set[str]:
        """End sessions, and keep their rows until the server has ended them too. Those that there
        were.
        """
        keys = {key_of(token): token for token in tokens}
        rows = self._rows.filter(key__in=list(keys), is_ended=False)
        found = {keys[key] for key in rows.values_list("key", flat=True)}
        if found:
            rows.update(is_ended=True, mark=new_mark())
            self._marked()
        return found

    def remove(self, tokens: Iterable[str]) -> int:
        """Remove rows. How many there were."""
        keys = list(map(key_of, tokens))
        return int(self._rows.filter(key__in=keys).delete()[0]) if keys else 0

    def remove_all(self, now_ms: int) -> int:
        """Remove all rows. How many of them were alive."""
        count: int = self._alive(now_ms).count()
        self._rows.all().delete()
        return count

    def remove_expired(self, now_ms: int) -> int:
        """Remove the rows that have expired. How many there were."""
        return int(self._rows.filter(expires_at__lte=now_ms).delete()[0])

    def marked(self) -> list[Marked]:
        """Some of the rows with a change of which the server did not hear."""
        found = []
        for row in self._rows.exclude(mark=0)[:PAGE]:
            token, record = unseal(row.sealed, row.key, self._secrets), parse(row.record)
            created_at = record.created_at if record else None
            whose = row.user_id, row.session_id
            found.append(Marked(row.key, token, *whose, row.is_ended, row.mark, created_at))
        return found

    def settle(self, marked: Iterable[Marked]) -> None:
        """The server has heard of these changes; whatever was changed since stays marked."""
        # A mark is a number that no other change has.
        rows = self._rows.filter(mark__in=[row.mark for row in marked])
        rows.filter(is_ended=True).delete()
        rows.filter(is_ended=False).update(mark=0)

    def _columns(self, session: Session) -> dict[str, Any]:
        """The row of a session."""
        record, part = session
        assert part is not None
        key = key_of(record.token)
        return {
            "key": key,
            "sealed": seal(record.token, key, self._secrets[0]),
            "session_id": record.id,
            "user_id": record.user_id,
            "record": record._replace(token="").to_json(),
            "data": part.data,
            "visit": visit_of(part),
            "expires_at": to_milliseconds(session.expires_at - EPOCH, "expires_at"),
        }

    def _marked(self) -> None:
        transaction.on_commit(self.on_mark, using=self._alias)

    @property
    def _model(self) -> Any:
        return apps.get_model("rustauth_django", "SessionRow")

    @property
    def _rows(self) -> Any:
        return self._model._base_manager.using(self._alias)

    def _there(self, key: str) -> Any:
        return self._rows.filter(key=key, is_ended=False)

    def _alive(self, now_ms: int, user_id: str | None = None) -> Any:
        rows = self._rows.filter(is_ended=False, expires_at__gt=now_ms)
        return rows if user_id is None else rows.filter(user_id=user_id)


def visit_of(part: DjangoPart) -> str:
    """The fields of the hash that a visit changes, as the row has them."""
    return json.dumps({name: value.decode() for name, value in part.visit().items()})


def read(row: Any, token: str) -> Session | None:
    """The session in a row; None if somebody else has written into it."""
    record = parse(row.record)
    try:
        visit = {name: str(value).encode() for name, value in load(row.visit).items()}
    except ValueError:
        return None
    part = DjangoPart.from_fields({"data": bytes(row.data), **visit, "state": b"row"})
    return Session(record._replace(token=token), part) if record and part else None


def key_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def seal(token: str, key: str, secret: bytes) -> str:
    """A token that only this site can read: each row has a mask of its own."""
    return urlsafe_b64encode(masked(token.encode(), key, secret)).decode()


def unseal(sealed: str, key: str, secrets: Iterable[bytes]) -> str | None:
    """The token in a row; None if the secret is another one by now."""
    try:
        text = urlsafe_b64decode(sealed)
    except ValueError:
        return None
    for secret in secrets:
        token = masked(text, key, secret).decode("utf-8", "replace")
        if hmac.compare_digest(key_of(token), key):
            return token
    return None


def masked(text: bytes, key: str, secret: bytes) -> bytes:
    """``text`` under a mask of HMACs; twice is the text again."""
    mask = b""
    while len(mask) < len(text):
        mask += hmac.digest(secret, SEALING + key.encode() + b"%d" % len(mask), "sha256")
    return bytes(one ^ other for one, other in zip(text, mask, strict=False))


def new_mark() -> int:
    return randbelow(2**62) + 1
