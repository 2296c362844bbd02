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

# What looks like a secret among credentials, as Django has it.
SECRETS = re.compile("api|token|key|secret|password|signature", re.IGNORECASE)
# No user, several of one name, no such method, what no column can hold, or no database: what the
# backends make of it is their business.
NOBODY = (ObjectDoesNotExist, MultipleObjectsReturned, AttributeError, ValueError, Error)

TYPED_ATTRIBUTE = "_rate_limit_typed"


def check(guard: Guard, request: HttpRequest | None, typed: str | None) -> Plan[Action, None]:
    """The step before a password is looked at; of the credentials it sees the name alone."""
    request = django_request(request)
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
    if is_settled(request):
        logins_of(request).has_failed = True
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
    # What was typed is settled with its attempt.
    logins = logins_of(request)
    if not device_of(guard, request, user):
        # What strangers have failed is not forgiven by whom they cannot stop.
        logins.signed_in |= keys
    if age := guard.options.login.device_age:
        device = (Device.of(request, age) or Device.new()).after_login(user, visitors)
        logins.device_cookie = device.cookie()


def free_on_new_password(
    *, sender: Any, instance: Any, created: bool, using: str, **kwargs: Any
) -> None:
    """A receiver of ``post_save``: who guessed at the old password may guess anew."""
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
    """What an attempt counts as; None if it does not."""
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
            # In place of what strangers share.
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
    # How much an account has left is nobody's business but its owner's.
    return Ask(LOGIN, tuple(limits), quiet=True, noted=noted) if limits else None


def device_of(guard: Guard, request: HttpRequest | None, user: Any) -> Device | None:
    """The browser, if it knows this user and the middleware renews what it knows."""
    age = guard.options.login.device_age
    if user is None or age is None or not is_settled(request):
        return None
    device = Device.of(request, age)
    return device if device and device.knows(user, guard.options.visitors) else None


@sensitive_variables("credentials", "value")
def typed_name(credentials: dict[str, Any]) -> str | None:
    """The name among some credentials, as it was typed; a phone number will do."""
    usual = (get_user_model().USERNAME_FIELD, "username", "email", "login")
    others = [name for name in credentials if not SECRETS.search(name)]
    for field in (*usual, *others):
        value = credentials.get(field)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return str(value)
    return None


def find_user(name: str) -> Plan[Action, Any]:
    """The user whom the database finds by what was typed; None if it finds none.

    It is asked for every attempt, so that the time tells nobody whether there is such a user.
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
