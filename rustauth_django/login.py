"""Authentication backends that refuse logins after too many failures.

A site with one backend replaces Django's by ``rustauth_django.login.ModelBackend``. Where there
are several, ``rustauth_django.login.LoginProtection`` stands first. Then every login that goes
through ``authenticate()`` is covered: Django's form and admin, DRF, django-allauth.
"""

from typing import Any

from django.contrib.auth import backends, get_user_model
from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables

from .attempts import check, typed_name
from .connections import get_guard
from .limits.protection import require_app


class Protection:
    """A mixin for backends: the step before a password is checked."""

    protects_logins = True

    @sensitive_variables("credentials")
    def check(self, request: HttpRequest | None, credentials: dict[str, Any]) -> None:
        """Raise ``PermissionDenied``, which ends the login, if the account or the address is
        blocked.

        Raises ``InvalidConfig`` on a site without the app in INSTALLED_APPS, where nothing would be
        counted.
        """
        require_app(type(self).__qualname__)
        guard = get_guard()
        guard.run(check(guard, request, typed_name(credentials)))

    @sensitive_variables("credentials")
    async def acheck(self, request: HttpRequest | None, credentials: dict[str, Any]) -> None:
        require_app(type(self).__qualname__)
        guard = get_guard()
        await guard.arun(check(guard, request, typed_name(credentials)))


class LoginProtection(Protection):
    """A backend that finds no user itself, and stands before the backends that do.

    It has no ``get_user``, so Django and django-allauth do not choose it to sign somebody in.
    """

    @sensitive_variables("credentials")
    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> None:
        # Nobody guesses what a proxy says of the user.
        if "remote_user" not in credentials:
            self.check(request, credentials)

    @sensitive_variables("credentials")
    async def aauthenticate(self, request: HttpRequest | None, **credentials: Any) -> None:
        if "remote_user" not in credentials:
            await self.acheck(request, credentials)


class ModelBackend(Protection, backends.ModelBackend):
    """Django's own backend, protected."""

    @sensitive_variables("password", "kwargs")
    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> Any:
        if asks(username, password, kwargs):
            self.check(request, {"username": name_of(username, kwargs)})
        return super().authenticate(request, username, password, **kwargs)

    @sensitive_variables("password", "kwargs")
    async def aauthenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> Any:
        if asks(username, password, kwargs):
            await self.acheck(request, {"username": name_of(username, kwargs)})
        return await super().aauthenticate(request, username, password, **kwargs)


def asks(username: str | None, password: str | None, more: dict[str, Any]) -> bool:
    """Will Django's backend look at a password, with these arguments?"""
    return name_of(username, more) is not None and password is not None


def name_of(username: str | None, more: dict[str, Any]) -> Any:
    """The name by which Django's backend looks for the user."""
    return more.get(get_user_model().USERNAME_FIELD) if username is None else username
