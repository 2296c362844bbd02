"""What an attempt to sign in counts as, and what became of it.

An attempt is counted before a password is looked at, and ``RateLimitMiddleware`` settles it at
the end of its request: a failure stays counted, a success is given back and forgives the
account, never the address, whatever is over. What is refused does not count. An attempt that
crashes or is cancelled stays counted.

Without a request or without the middleware nobody would give back. There an attempt passes
while there is room, and a failure is counted when it is known.

An account is what was typed, as an HMAC, whether or not there is such a user: nothing
tells them apart.
"""

from typing import Any, TypeGuard

from django.contrib.auth import get_backends, get_user_model
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from .connections import get_guard
from .engine.plans import Plan
from .limits.guard import REFUSED_ATTRIBUTE, Ask, Guard, django_request
from .limits.keys import LOGIN, MissingAddress, account_key
from .limits.logins import LOGINS_ATTRIBUTE, Try, logins_of
from .limits.outages import Action
from .limits.protection import protects

TYPED_ATTRIBUTE = "_rate_limit_typed"


def check(
    guard: Guard, request: HttpRequest | None, credentials: dict[str, Any]
) -> Plan[Action, None]:
    """The step before a password is looked at."""
    request, typed = django_request(request), typed_name(credentials)
    if request is not None:
        setattr(request, TYPED_ATTRIBUTE, typed)
        # What became of an earlier attempt of the same request is not this one's.
        setattr(request, REFUSED_ATTRIBUTE, None)
    ask = yield from ask_of(guard, request, typed)
    if ask is None:
        return
    if is_settled(request):
        verdict, reservation = yield from guard.reserve(request, ask)
        if reservation is not None:
            logins_of(request).tries.append(Try(typed, reservation))
    else:
        verdict = yield from guard.ask(request, ask, spend=False)
    if not verdict.permitted:
        if request is not None:
            # The view goes on to say that the password was wrong; the middleware knows better.
            setattr(request, REFUSED_ATTRIBUTE, verdict)
        raise PermissionDenied


def count_failure(
    *, credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any
) -> None:
    """A receiver of ``user_login_failed``."""
    request = django_request(request)
    if getattr(request, REFUSED_ATTRIBUTE, None) is not None or not is_protected():
        return
    if is_settled(request):
        logins_of(request).fail(typed_name(credentials))
        return
    guard = get_guard()
    # Of what looks like a secret, the signal has only asterisks.
    typed = getattr(request, TYPED_ATTRIBUTE, None) or typed_name(credentials)

    def failure() -> Plan[Action, None]:
        ask = yield from ask_of(guard, request, typed)
        if ask is not None:
            yield from guard.spend(request, ask)

    guard.run(failure())


def forgive(*, user: Any, request: HttpRequest | None = None, **kwargs: Any) -> None:
    """A receiver of ``user_logged_in``."""
    guard, request = get_guard(), django_request(request)
    if not (guard.options.enabled and guard.options.login.account and is_protected()):
        return
    if is_settled(request):
        logins_of(request).names.add(user.get_username())
        return
    names = filter(None, {user.get_username(), getattr(request, TYPED_ATTRIBUTE, None)})
    guard.run(guard.forgive(names))


def is_settled(request: HttpRequest | None) -> TypeGuard[HttpRequest]:
    """Will the middleware settle this request's logins?"""
    return hasattr(request, LOGINS_ATTRIBUTE)


def is_protected() -> bool:
    """Is the protection among the backends of this site?"""
    return any(map(protects, get_backends()))


def ask_of(
    guard: Guard, request: HttpRequest | None, typed: str | None
) -> Plan[Action, Ask | None]:
    """What an attempt counts as; None if it does not."""
    rules, visitors = guard.options.login, guard.options.visitors
    if request is None:
        if not guard.options.enabled:
            return None
    else:
        _, is_exempt = yield from guard.screen(request)
        if is_exempt:
            return None
    limits = [(account_key(typed, visitors), rule) for rule in rules.account] if typed else []
    if request is not None:
        try:
            address = visitors.address(request)
        except MissingAddress:
            address = None
        if address:
            limits += [(f"{address}|{LOGIN}", rule) for rule in rules.address]
    # How much an account has left is nobody's business but its owner's.
    noted = frozenset([key for key, _ in limits[: len(rules.account)] if typed])
    return Ask(LOGIN, tuple(limits), quiet=True, noted=noted) if limits else None


def typed_name(credentials: dict[str, Any]) -> str | None:
    """The name among some credentials, as it was typed."""
    for field in (get_user_model().USERNAME_FIELD, "username", "email", "login"):
        value = credentials.get(field)
        if isinstance(value, str) and value:
            return value
    return None
