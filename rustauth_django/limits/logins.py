"""The logins of a request: counted before a password is checked, settled at the request's end."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponseBase

from .operations import Attempt, Reservation

# On a request whose logins the middleware settles: a ``Logins``, or None before the first.
LOGINS_ATTRIBUTE = "_rate_limit_logins"


@dataclass(frozen=True, slots=True, repr=False)
class Login:
    """An attempt to sign in: the name as it was ``typed``, the ``users`` whom it may name, the
    ``account`` as an HMAC, and the ``address``.
    """

    typed: str | None
    users: tuple[Any, ...]
    account: str | None
    address: str | None

    @property
    def user(self) -> Any:
        """The user whom it names; None if it names nobody, or somebody else as well."""
        return self.users[0] if len(self.users) == 1 else None


@dataclass(slots=True, repr=False)
class Try:
    """One call of ``authenticate()``, and the reservations made for it."""

    login: Login
    reservation: Reservation
    has_failed: bool = False

    @property
    def typed(self) -> str | None:
        return self.login.typed


class Logins:
    """The logins of a request and their results. Receivers of signals only write here, without any
    I/O.
    """

    def __init__(self) -> None:
        self.tries: list[Try] = []
        #: The keys of the accounts of users who were signed in.
        self.signed_in: set[str] = set()
        self.has_crashed = False
        #: The names of failures that were not counted before.
        self.missed: list[str | None] = []
        #: Was somebody signed in, and did ``authenticate()`` find nobody?
        self.is_signed_in = False
        self.has_failed = False
        #: The value of the device cookie to set, if somebody signed in.
        self.device_cookie: str | None = None
        #: If it is a login view: the reservation for the view, or what to count if it fails.
        self.view: Any = None
        self.view_ask: Any = None

    def is_pending(self, typed: str | None) -> bool:
        """Is an attempt under this name counted already, whose result is not known?"""
        return any(one.typed == typed and not one.has_failed for one in self.tries)

    def fail(self, typed: str | None) -> None:
        """The last attempt under this name has failed. The signal hides a name that Django takes
        for a secret.
        """
        pending = [one for one in self.tries if not one.has_failed]
        named = [one for one in pending if one.typed == typed]
        for one in (named or pending)[-1:]:
            one.has_failed = True
        if not pending:
            self.missed.append(typed)

    @property
    def done(self) -> list[Try]:
        """The attempts that have not failed, so a user was found."""
        return [] if self.has_crashed else [one for one in self.tries if not one.has_failed]

    @property
    def failed(self) -> list[Try]:
        """The attempts that stay counted because their passwords were wrong, or nobody knows."""
        typed = {one.typed for one in self.done if one.typed}
        kept = [one for one in self.tries if one.has_failed or self.has_crashed]
        return [one for one in kept if one.typed not in typed]

    @property
    def accounts(self) -> set[str]:
        """The keys of the accounts whose attempts did not fail."""
        # Others may sign in by a name that is nobody's in the database, or several users'.
        sure = [one for one in self.done if one.login.user is not None]
        counted = [pair for one in sure for pair in one.reservation.counted]
        return self.signed_in | {bucket.key for bucket, _ in counted if bucket.notes_attempts}

    def is_success(self, request: HttpRequest, response: HttpResponseBase) -> bool:
        """Is this the answer to somebody who got in?

        An error is not. If no user was found, neither is a page, nor a redirect back to the same
        page.
        """
        if response.status_code >= 400 or self.has_crashed:
            return False
        if self.is_signed_in or self.done:
            return True
        back = urlsplit(response.headers.get("Location", "")).path in ("", request.path)
        return response.status_code >= 300 and not (self.has_failed or back)

    def endings(self, *, is_here: bool) -> list[Attempt]:
        """How each of these attempts ends.

        A name may be tried in several ways, first as an e-mail address: where one of them
        succeeds, none of them counts.
        """
        done = self.done
        typed = {one.typed for one in done if one.typed}
        return [
            Attempt(bucket, at, "undo" if one in done or one.typed in typed else "keep")
            for one in self.tries
            if one.reservation.is_here == is_here
            for bucket, at in one.reservation.counted
        ]


def logins_of(request: HttpRequest) -> Logins:
    """The logins of a request that the middleware handles."""
    logins: Logins | None = getattr(request, LOGINS_ATTRIBUTE)
    if logins is None:
        logins = Logins()
        setattr(request, LOGINS_ATTRIBUTE, logins)
    return logins
