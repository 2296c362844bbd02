"""Does the protection of logins come before every backend that checks a password?"""

from collections.abc import Collection
from inspect import Parameter, signature
from typing import Any

from django.apps import apps
from django.contrib.auth import get_backends, get_user_model
from django.core.exceptions import ImproperlyConfigured

from ..exceptions import InvalidConfig

# The id of the check, and its message.
UNPROTECTED = "rustauth_django.E007"
NAMES = 'RUSTAUTH["RATE_LIMIT"]["LOGIN"]["NAMES"]'
FIRST = "Put LoginProtection, or the ModelBackend of rustauth_django.login, before it."


def protects(backend: Any) -> bool:
    """Is this one of the backends in ``rustauth_django.login``?"""
    return getattr(backend, "protects_logins", False)


def backends() -> list[Any]:
    """The authentication backends of this site; none on a site without users, where Django's own
    cannot even be imported.
    """
    try:
        return list(get_backends())
    except (ImproperlyConfigured, RuntimeError):
        if apps.is_installed("django.contrib.auth"):
            raise
        return []


def is_protected() -> bool:
    """Is the protection among the backends of this site?"""
    return any(map(protects, backends()))


def unprotected_backend() -> str | None:
    """The first backend that gets a password before the protection does; None if there is none."""
    earlier: list[str] = []
    for backend in backends():
        if protects(backend):
            return earlier[0] if earlier else None
        if takes_a_password(backend):
            earlier.append(f"{type(backend).__module__}.{type(backend).__qualname__}")
    return None


def unprotected(backend: str) -> str:
    """The message about such a backend."""
    return (
        f"AUTHENTICATION_BACKENDS has {backend} before the protection of logins, so passwords"
        " are checked there after any number of failures"
    )


def unknown_names(names: Collection[str]) -> list[str]:
    """Those of the names of fields that the user model does not have."""
    # A site without names may have no user model.
    return [name for name in names if name not in fields_of_users()]


def fields_of_users() -> set[str]:
    """The fields of the user model that can be compared without regard to case."""
    fields = get_user_model()._meta.concrete_fields
    return {one.name for one in fields if not one.is_relation and one.get_lookup("iexact")}


def require_protection(silenced: Collection[str], names: Collection[str]) -> None:
    """Raise ``InvalidConfig`` on a site whose logins seem protected and are not.

    ``silenced`` are the ids of checks that the site has silenced, ``names`` the fields of the user
    model by which people sign in.
    """
    require_app("RateLimitMiddleware")
    if unknown := unknown_names(names):
        raise InvalidConfig(f"{NAMES} has {unknown[0]!r}, which is no field of the user model")
    backend = unprotected_backend()
    if backend is not None and UNPROTECTED not in silenced:
        raise InvalidConfig(f"{unprotected(backend)}. {FIRST}")


def require_app(name: str) -> None:
    """Raise ``InvalidConfig`` if the app is not installed, since ``name`` would get no signals."""
    if not apps.is_installed("rustauth_django"):
        raise InvalidConfig(f'{name} needs the app: add "rustauth_django" to INSTALLED_APPS')


def takes_a_password(backend: Any) -> bool:
    """Would Django call this backend with a password, whatever else it is called with?"""
    try:
        parameters = signature(backend.authenticate).parameters
    except (AttributeError, TypeError, ValueError):
        return False
    kinds = {parameter.kind for parameter in parameters.values()}
    return "password" in parameters or Parameter.VAR_KEYWORD in kinds
