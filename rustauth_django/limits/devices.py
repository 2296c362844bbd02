"""Browsers that have signed in to an account before: each has a counter of its own.

After OWASP's device cookies: whoever locks an account out by wrong guesses locks strangers out,
and not the browser of its owner. The cookie has a random number and, for up to five accounts, an
HMAC of that number, the user and the password's hash: so it names nobody, and says nothing any
more once the password is another one.
"""

import secrets
from dataclasses import dataclass
from typing import Any, Self

from django.core.signing import BadSignature, TimestampSigner
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare

from .keys import LOGIN, Visitors, account_digest

COOKIE = "rustauth_device"
SALT = "rustauth_django.limits.devices"
MAX_ACCOUNTS = 5
MAX_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class Device:
    """A browser: its ``number``, and a mark of each account, the last one first."""

    number: str
    marks: tuple[str, ...] = ()

    @classmethod
    def of(cls, request: HttpRequest, max_age: int) -> Self | None:
        """The browser that sent a request; None if it has no cookie of ours, or an old one."""
        value = request.COOKIES.get(COOKIE, "")
        if not 0 < len(value) <= MAX_LENGTH:
            return None
        try:
            number, *marks = TimestampSigner(salt=SALT).unsign(value, max_age=max_age).split(".")
        except BadSignature:
            return None
        return cls(number, tuple(marks))

    @classmethod
    def new(cls) -> Self:
        return cls(secrets.token_hex(16))

    def knows(self, user: Any, visitors: Visitors) -> bool:
        """Has this user signed in here before, with the password of today?"""
        mark = self._mark(user, visitors)
        return any(constant_time_compare(mark, one) for one in self.marks)

    def after_login(self, user: Any, visitors: Visitors) -> Self:
        """The same browser, which knows this user as well."""
        mark = self._mark(user, visitors)
        others = [one for one in self.marks if one != mark]
        return type(self)(self.number, (mark, *others)[:MAX_ACCOUNTS])

    def key(self, user: Any, visitors: Visitors) -> str:
        """The key under which failed logins of the user's are counted here."""
        number = visitors.digest(self.number)[:32]
        return f"device:{account_digest(user, visitors)}|{number}|{LOGIN}"

    def cookie(self) -> str:
        """The value of the cookie, which needs no quotes."""
        return TimestampSigner(salt=SALT).sign(".".join([self.number, *self.marks]))

    def _mark(self, user: Any, visitors: Visitors) -> str:
        account = account_digest(user, visitors)
        hash_of = getattr(user, "get_session_auth_hash", str)  # AbstractBaseUser's
        return visitors.digest(f"device:{self.number}:{account}:{hash_of()}")[:32]
