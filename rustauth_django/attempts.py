"""Counting attempts to sign in: before the password is checked, and once the result is known.

An attempt is counted before its password is checked, and ``RateLimitMiddleware`` settles it at the
end of the request. A failure stays counted. A success is given back, and the account's earlier
failures are forgiven, but not those of the address. A refused attempt does not count. An attempt
that crashes or is cancelled stays counted.

Without a request or without the middleware nothing could give an attempt back. There an attempt
passes while there is room, and a failure is counted when it is known.

An account is counted under an HMAC of its user or of the typed name, so a key does not tell whether
such a user exists.
"""

import re
from typing import Any, TypeGuard

from django.contrib.auth import get_backends, get_user_model
from django.core.exceptions import (
    MultipleObjectsReturned,
    ObjectDoesNotExist,
    PermissionDenied,
)
from django.db import Error, transaction
from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables

from .connections import get_guard
from .engine.plans import Call, Plan
from .limits.devices import Device
from .limits.guard import REFUSED_ATTRIBUTE, Ask, Guard, django_request
from .limits.keys import LOGIN, MAX_TYPED, MissingAddress, account_key, name_key
from .limits.logins import LOGINS_ATTRIBUTE, Try, logins_of
from .limits.outages import Action
from .limits.protection import protects
from .limits.rates import RateLimitRule

# Names of credentials that Django takes for secrets.
SECRETS = re.compile("api|token|key|secret|password|signature", re.IGNORECASE)
# No user, several users of one name, no such method, a value that no column can hold, or no
# database: the backends deal with each of these themselves.
NOBODY = (ObjectDoesNotExist, MultipleObjectsReturned, AttributeError, ValueError, Error)

TYPED_ATTRIBUTE = "_rate_limit_typed"


def check(guard: Guard, request: HttpRequest | None, typed: str | None) -> Plan[Action, None]:
    """Count an attempt before its password is checked. Only the name is used for it."""
    request = django_request(request)
    if request is not None:
        setattr(request, TYPED_ATTRIBUTE, typed)
        # An earlier attempt of the same request may have failed; this one has not.
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
            # The view will answer that the password was wrong; the middleware replaces that by the
            # refusal.
            setattr(request, REFUSED_ATTRIBUTE, verdict)
        raise PermissionDenied


def count_failure(
    *, credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any
) -> None:
    """A receiver of ``user_login_failed``."""
    request = django_request(request)
    if is_settled(request):
        logins_of(request).has_failed = True
    if getattr(request, REFUSED_ATTRIBUTE, None) is not None or not is_protected():
        return
    if is_settled(request):
        logins_of(request).fail(typed_name(credentials))
        return
    guard = get_guard()
    # The signal has only asterisks in place of a secret.
    typed = getattr(request, TYPED_ATTRIBUTE, None) or typed_name(credentials)

    def failure() -> Plan[Action, None]:
        ask = yield from ask_of(guard, request, typed)
        if ask is not None:
            yield from guard.spend(request, ask)

    guard.run(failure())


def forgive(*, user: Any, request: HttpRequest | None = None, **kwargs: Any) -> None:
    """A receiver of ``user_logged_in``."""
    guard, request = get_guard(), django_request(request)
    if is_settled(request):
        logins_of(request).is_signed_in = True
    if not (guard.options.enabled and guard.options.login.account and is_protected()):
        return
    visitors = guard.options.visitors
    keys = {account_key(user, visitors), name_key(user.get_username(), visitors)}
    if not is_settled(request):
        if typed := getattr(request, TYPED_ATTRIBUTE, None):
            keys.add(name_key(typed, visitors))
        guard.run(guard.forgive(keys))
        return
    # The typed name is settled together with its attempt.
    logins = logins_of(request)
    if not device_of(guard, request, user):
        # A known browser has a counter of its own; its success does not forgive the strangers'
        # failures.
        logins.signed_in |= keys
    if age := guard.options.login.device_age:
        device = (Device.of(request, age) or Device.new()).after_login(user, visitors)
        logins.device_cookie = device.cookie()


def free_on_new_password(
    *, sender: Any, instance: Any, created: bool, using: str, **kwargs: Any
) -> None:
    """A receiver of ``post_save``: a new password frees the account."""
    # Django has the text of a password that was set until it is saved.
    is_new = issubclass(sender, get_user_model()) and getattr(instance, "_password", None)
    if not is_new or created:
        return
    guard = get_guard()
    if guard.options.enabled and guard.options.login.account and is_protected():
        key = account_key(instance, guard.options.visitors)
        transaction.on_commit(lambda: guard.run(guard.forgive([key])), using=using, robust=True)


def is_settled(request: HttpRequest | None) -> TypeGuard[HttpRequest]:
    """Will the middleware settle this request's logins?"""
    return hasattr(request, LOGINS_ATTRIBUTE)


def is_protected() -> bool:
    """Is the protection among the backends of this site?"""
    return any(map(protects, get_backends()))


def ask_of(
    guard: Guard, request: HttpRequest | None, typed: str | None
) -> Plan[Action, Ask | None]:
    """The limits that an attempt counts against; None if there are none."""
    rules, visitors = guard.options.login, guard.options.visitors
    if request is None:
        if not guard.options.enabled:
            return None
    else:
        _, is_exempt = yield from guard.screen(request)
        if is_exempt:
            return None
    limits: list[tuple[str, RateLimitRule]] = []
    if typed and rules.account:
        user = yield from find_user(typed)
        device = device_of(guard, request, user)
        if device is not None:
            # It takes the place of the account's counter, which all strangers share.
            own = device.key(user, visitors)
            ways = tuple([(own, rule) for rule in rules.account])
            return Ask(LOGIN, ways, quiet=True, noted=frozenset([own]))
        key = account_key(user, visitors) if user else name_key(typed, visitors)
        limits = [(key, rule) for rule in rules.account]
    noted = frozenset([key for key, _ in limits])
    if request is not None:
        try:
            address = visitors.address(request)
        except MissingAddress:
            address = None
        if address:
            limits += [(f"{address}|{LOGIN}", rule) for rule in rules.address]
    # Headers would tell everybody how much an account has left.
    return Ask(LOGIN, tuple(limits), quiet=True, noted=noted) if limits else None


def device_of(guard: Guard, request: HttpRequest | None, user: Any) -> Device | None:
    """The browser's device cookie, if the user has signed in with it and the middleware can renew
    it.
    """
    age = guard.options.login.device_age
    if user is None or age is None or not is_settled(request):
        return None
    device = Device.of(request, age)
    return device if device and device.knows(user, guard.options.visitors) else None


@sensitive_variables("credentials", "value")
def typed_name(credentials: dict[str, Any]) -> str | None:
    """The name among the credentials, as it was typed; it may be an e-mail address or a phone
    number.
    """
    usual = (get_user_model().USERNAME_FIELD, "username", "email", "login")
    others = [name for name in credentials if not SECRETS.search(name)]
    for field in (*usual, *others):
        value = credentials.get(field)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return str(value)
    return None


def find_user(name: str) -> Plan[Action, Any]:
    """The user whom the database finds by the typed name; None if there is none.

    It is asked for every attempt, so that the time of an answer does not tell whether such a user
    exists.
    """
    if len(name) > MAX_TYPED:
        return None
    return (yield Call(_find_user, (name,), twin=_afind_user))


def _find_user(name: str) -> Any:
    try:
        return get_user_model()._default_manager.get_by_natural_key(name)
    except NOBODY:
        return None


async def _afind_user(name: str) -> Any:
    try:
        return await get_user_model()._default_manager.aget_by_natural_key(name)
    except NOBODY:
        return None
