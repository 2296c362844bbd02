"""Browsers that have signed in to an account before: each has a counter of its own.

After OWASP's device cookies: wrong guesses lock an account for strangers, not for its owner's
browser. The cookie has a random number and, for up to five accounts, an HMAC of that number, the
user and the password's hash: so it names nobody, and is void after a change of password.
"""

import secrets
from dataclasses import dataclass
from typing import Any, Self

from django.core.signing import BadSignature, TimestampSigner
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare

from .keys import LOGIN, Visitors, account_digest, password_hash

COOKIE = "rustauth_device"
SALT = "rustauth_django.limits.devices"
MAX_ACCOUNTS = 5
MAX_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class Device:
    """A browser: its random ``number``, and a mark for each account that signed in with it, the
    last one first.
    """

    number: str
    marks: tuple[str, ...] = ()

    @classmethod
    def of(cls, request: HttpRequest, max_age: int) -> Self | None:
        """The browser that sent a request; None if it has no valid device cookie."""
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
        """The same browser, after this user has signed in."""
        mark = self._mark(user, visitors)
        others = [one for one in self.marks if one != mark]
        return type(self)(self.number, (mark, *others)[:MAX_ACCOUNTS])

    def key(self, user: Any, visitors: Visitors) -> str:
        """The key under which this user's failed logins in this browser are counted."""
        number = visitors.digest(self.number)[:32]
        return f"device:{account_digest(user, visitors)}|{number}|{LOGIN}"

    def cookie(self) -> str:
        """The value of the cookie; it has no character that needs quotes."""
        return TimestampSigner(salt=SALT).sign(".".join([self.number, *self.marks]))

    def _mark(self, user: Any, visitors: Visitors) -> str:
        account = account_digest(user, visitors)
        return visitors.digest(f"device:{self.number}:{account}:{password_hash(user)}")[:32]
