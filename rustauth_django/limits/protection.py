"""Does the protection of logins come before every backend that checks a password?"""

from collections.abc import Collection
from inspect import signature
from typing import Any

from django.apps import apps
from django.contrib.auth import get_backends

from ..exceptions import InvalidConfig

# The id of the check, and its message.
UNPROTECTED = "rustauth_django.E007"
FIRST = "Put LoginProtection, or the ModelBackend of rustauth_django.login, before it."


def protects(backend: Any) -> bool:
    """Is this one of the backends in ``rustauth_django.login``?"""
    return getattr(backend, "protects_logins", False)


def unprotected_backend() -> str | None:
    """The first backend that gets a password before the protection does; None if there is none."""
    earlier: list[str] = []
    for backend in get_backends():
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


def require_protection(silenced: Collection[str]) -> None:
    """Raise ``InvalidConfig`` on a site whose logins seem protected and are not.

    ``silenced`` are the ids of checks that the site has silenced.
    """
    require_app("RateLimitMiddleware")
    backend = unprotected_backend()
    if backend is not None and UNPROTECTED not in silenced:
        raise InvalidConfig(f"{unprotected(backend)}. {FIRST}")


def require_app(name: str) -> None:
    """Raise ``InvalidConfig`` if the app is not installed, since ``name`` would get no signals."""
    if not apps.is_installed("rustauth_django"):
        raise InvalidConfig(f'{name} needs the app: add "rustauth_django" to INSTALLED_APPS')


def takes_a_password(backend: Any) -> bool:
    """Would Django call this backend with a password?"""
    try:
        signature(backend.authenticate).bind(None, username="", password="")
    except (AttributeError, TypeError):
        return False
    return True
