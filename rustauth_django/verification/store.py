"""Tokens that work once, and short codes that can be guessed at a few times.

A token stands for a value, for one purpose and for a time. Only its hash is stored, except for
purposes that a RustAuth service reads. Of many callers that use a token at once, one gets its
value.
"""

import re
import secrets
import string
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Any, TypeVar

from django.utils.crypto import salted_hmac

from ..engine.backends import Backend
from ..engine.durations import Seconds, to_milliseconds
from ..engine.keyspace import DEFAULT_PREFIX, DEFAULT_SCAN_COUNT, PURPOSE, Keyspace, plain_text
from ..engine.memory import epoch_ms
from ..engine.operations import (
    CompareAndSet,
    Delete,
    DeleteIfValue,
    Get,
    Known,
    Operation,
    Set,
    Take,
)
from ..engine.plans import Plan, adrive, drive
from ..engine.records import moment
from ..exceptions import InvalidConfig
from .records import Verification

T = TypeVar("T")
# The maximum lengths, in characters.
IDENTIFIER = range(1, 513)
VALUE = range(65_537)
DIGITS = range(4, 13)
ATTEMPTS = range(1, 101)
# The value in a code's record is the attempts left, the code's hash, and the caller's value.
CODE = re.compile(r"([1-9][0-9]{0,2}):([0-9a-f]{64}):(.*)", re.DOTALL)
# Letters and digits alone: mail programs cut other characters off the ends of links.
ALPHABET = string.ascii_letters + string.digits


class VerificationStore:
    """One-time tokens at ``{key_prefix}secondary:verification:{identifier}`` (VER-01).

    The identifier is ``{purpose}:{token}``. Its SHA-256 is stored (VER-02), or the identifier
    itself if the purpose is in ``plain``. ``secret`` keys the hashes of codes, ``clock`` returns
    epoch milliseconds. Wrong arguments of the caller's raise ``TypeError`` or ``InvalidConfig``
    before any I/O. A token or a code that cannot exist is answered like a wrong one. A server that
    fails is a ``BackendError``.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        secret: str,
        key_prefix: str = DEFAULT_PREFIX,
        plain: Collection[str] = (),
        clock: Callable[[], int] = epoch_ms,
    ) -> None:
        self.backend = backend
        self._secret = secret
        self._keyspace = Keyspace(key_prefix, "secondary", "secondary storage", DEFAULT_SCAN_COUNT)
        self._plain = frozenset(plain)
        self._clock = clock

    def __repr__(self) -> str:
        return f"<VerificationStore {self._keyspace.prefix!r} on {self.backend.location}>"

    def create(
        self, purpose: str, value: str = "", *, ttl: Seconds, identifier: str | None = None
    ) -> str:
        """A new token for ``value``, which works once within ``ttl`` seconds.

        ``identifier`` is used in place of a random token, and replaces an earlier token of that
        name. With ttl 0 it has expired already (VER-11).
        """
        token, writing = self._create(purpose, value, ttl, identifier)
        self.backend.run(writing)
        return token

    async def acreate(
        self, purpose: str, value: str = "", *, ttl: Seconds, identifier: str | None = None
    ) -> str:
        token, writing = self._create(purpose, value, ttl, identifier)
        await self.backend.arun(writing)
        return token

    def consume(self, purpose: str, token: str) -> Verification | None:
        """The token's value, once: of many callers one gets it (VER-06)."""
        return self._live(self.backend.run(self._on(take_record, purpose, token)))

    async def aconsume(self, purpose: str, token: str) -> Verification | None:
        return self._live(await self.backend.arun(self._on(take_record, purpose, token)))

    def peek(self, purpose: str, token: str) -> Verification | None:
        """The token's value; the token stays valid (VER-05)."""
        return drive(self._peek(purpose, token), self.backend.run)

    async def apeek(self, purpose: str, token: str) -> Verification | None:
        return await adrive(self._peek(purpose, token), self.backend.arun)

    def revoke(self, purpose: str, token: str) -> bool:
        """Remove the token. Was there one (VER-07)?"""
        return bool(self.backend.run(self._on(Delete, purpose, token)))

    async def arevoke(self, purpose: str, token: str) -> bool:
        return bool(await self.backend.arun(self._on(Delete, purpose, token)))

    def create_code(
        self,
        purpose: str,
        identifier: str,
        value: str = "",
        *,
        ttl: Seconds,
        digits: int = 6,
        attempts: int = 5,
    ) -> str:
        """A new code for ``identifier``, such as a user; an earlier code is forgotten.

        After so many wrong ``attempts``, from any client, the code is removed. Codes and tokens are
        separate: neither is ever taken for the other.
        """
        code, writing = self._create_code(purpose, identifier, value, ttl, digits, attempts)
        self.backend.run(writing)
        return code

    async def acreate_code(
        self,
        purpose: str,
        identifier: str,
        value: str = "",
        *,
        ttl: Seconds,
        digits: int = 6,
        attempts: int = 5,
    ) -> str:
        code, writing = self._create_code(purpose, identifier, value, ttl, digits, attempts)
        await self.backend.arun(writing)
        return code

    def consume_code(self, purpose: str, identifier: str, code: str) -> Verification | None:
        """The code's value, once; None for a wrong code, which counts as an attempt.

        Blanks in it are ignored. Text that is not a number is not an attempt.
        """
        return drive(self._consume_code(purpose, identifier, code), self.backend.run)

    async def aconsume_code(self, purpose: str, identifier: str, code: str) -> Verification | None:
        return await adrive(self._consume_code(purpose, identifier, code), self.backend.arun)

    def _create(
        self, purpose: str, value: str, ttl: Seconds, identifier: str | None
    ) -> tuple[str, Operation[bool]]:
        token = random_text(24)
        if identifier is not None:
            token = checked(identifier, "identifier", IDENTIFIER)
        return token, self._write(self._new(self._stored(purpose, token), value, ttl))

    def _create_code(
        self, purpose: str, identifier: str, value: str, ttl: Seconds, digits: int, attempts: int
    ) -> tuple[str, Operation[bool]]:
        for name, number, allowed in (("digits", digits, DIGITS), ("attempts", attempts, ATTEMPTS)):
            if isinstance(number, bool) or not isinstance(number, int):
                raise TypeError(f"{name} must be an int, not {type(number).__name__}")
            if number not in allowed:
                raise InvalidConfig(f"{name} must be from {allowed[0]} to {allowed[-1]}")
        code = f"{secrets.randbelow(10**digits):0{digits}}"
        identifier = checked(identifier, "identifier", IDENTIFIER)
        record = self._new(self._stored(purpose, identifier, "/code"), value, ttl)
        kept = f"{attempts}:{self._digest(record, code)}:{record.value}"
        return code, self._write(replace(record, value=kept))

    def _peek(self, purpose: str, token: str) -> Plan[Operation[Any], Verification | None]:
        key = self._find(purpose, token)
        if not key:
            return None
        text = yield Get(key, "replace")
        live = self._live(text)
        if not live and Verification.from_json(text):
            yield DeleteIfValue(key, text)
        return live

    def _consume_code(
        self, purpose: str, identifier: str, code: str
    ) -> Plan[Operation[Any], Verification | None]:
        typed = "".join(plain_text(code, "code", "replace").split())
        is_number = typed.isascii() and typed.isdigit() and len(typed) in DIGITS
        key = self._find(purpose, identifier, "/code")
        if not key or not is_number:
            return None
        # Each turn that is not the last is one in which another call changed the record.
        while True:
            text = yield Get(key, "replace")
            record = self._live(text)
            kept = record and CODE.fullmatch(record.value)
            if not record or not kept:
                return None
            left, digest, value = int(kept[1]), kept[2], kept[3]
            is_right = compare_digest(digest, self._digest(record, typed))
            if is_right or left == 1:
                is_done = yield DeleteIfValue(key, text)
            else:
                spent = replace(
                    record,
                    value=f"{left - 1}:{digest}:{value}",
                    updated_at=moment(self._clock()),
                )
                ttl_ms = max(1, self._left_ms(record))
                is_done = yield CompareAndSet(key, text, spent.to_json(), ttl_ms)
            if is_done:
                return replace(record, value=value) if is_right else None

    def _stored(self, purpose: str, identifier: str, kind: str = "") -> str:
        """The name under which a token is stored. A purpose contains no ":" and no "/"."""
        purpose = plain_text(purpose, "purpose", "replace")
        if not PURPOSE.fullmatch(purpose):
            raise InvalidConfig('purpose must be 1 to 64 letters, digits, "-", "_" or "."')
        name = f"{purpose}{kind}:{identifier}"
        if purpose in self._plain and not kind:
            return name
        return sha256(name.encode()).hexdigest()

    def _find(self, purpose: str, identifier: str, kind: str = "") -> str | None:
        """The key of a token that a client sent; None, without asking the server, if it cannot
        exist.
        """
        is_there = is_possible(identifier, "identifier", IDENTIFIER)
        stored = self._stored(purpose, identifier if is_there else "", kind)
        return self._key(stored) if is_there else None

    def _key(self, stored: str) -> str:
        return self._keyspace.physical(f"verification:{stored}")

    def _on(
        self, kind: Callable[[str], Operation[T]], purpose: str, token: str
    ) -> Operation[T | None]:
        key = self._find(purpose, token)
        return kind(key) if key else Known(None)

    def _new(self, stored: str, value: str, ttl: Seconds) -> Verification:
        value = checked(value, "value", VALUE)
        ttl_ms = to_milliseconds(ttl, "ttl")
        if ttl_ms < 0:
            raise InvalidConfig("ttl must not be negative")
        now_ms = self._clock()
        try:
            expires_at = moment(now_ms + ttl_ms)
        except OverflowError:
            raise InvalidConfig("ttl must end before the year 10000") from None
        now = moment(now_ms)
        return Verification(random_text(32), stored, value, expires_at, now, now)

    def _write(self, record: Verification) -> Operation[bool]:
        key, ttl_ms = self._key(record.identifier), self._left_ms(record)
        return Set(key, record.to_json(), ttl_ms) if ttl_ms > 0 else Delete(key)

    def _live(self, text: str | None) -> Verification | None:
        """A stored record, unless its own ``expiresAt`` has passed."""
        record = Verification.from_json(text)
        return record if record and self._left_ms(record) > 0 else None

    def _left_ms(self, record: Verification) -> int:
        return (record.expires_at - moment(self._clock())) // timedelta(milliseconds=1)

    def _digest(self, record: Verification, code: str) -> str:
        """The keyed hash of a code. A plain hash would not hide it, since there are few codes."""
        text = f"{record.id}:{record.identifier}:{code}"
        salt = "rustauth_django.verification"
        return salted_hmac(salt, text, secret=self._secret, algorithm="sha256").hexdigest()


def take_record(key: str) -> Take:
    """The record at ``key``, removed; bytes that are no UTF-8 become text that is no record."""
    return Take(key, "replace")


def random_text(length: int) -> str:
    """Unpredictable letters and digits, almost 6 bits each."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def is_possible(text: str, name: str, sizes: range) -> bool:
    """Can this text be stored? Raises ``TypeError`` for other types."""
    plain = plain_text(text, name, "replace")
    return len(plain) in sizes and plain.encode(errors="replace").decode() == plain


def checked(text: str, name: str, sizes: range) -> str:
    """A text of the caller's, checked. Raises ``InvalidConfig``, which does not quote it."""
    if not is_possible(text, name, sizes):
        told = f"{name} must be {sizes[0]} to {sizes[-1]} characters that UTF-8 can hold"
        raise InvalidConfig(told)
    return plain_text(text, name)
