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
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponseBase
from django.views.decorators.debug import sensitive_variables

from .audit import record, record_unlocked
from .connections import get_guard
from .engine.plans import Call, Plan, send
from .limits.devices import Device
from .limits.guard import REFUSED_ATTRIBUTE, Ask, Guard, django_request
from .limits.keys import (
    LOGIN,
    MAX_TYPED,
    MissingAddress,
    account_digest,
    account_key,
    login_facts,
    pair_key,
    password_hash,
)
from .limits.logins import LOGINS_ATTRIBUTE, Login, Try, logins_of
from .limits.operations import Reservation
from .limits.outages import Action
from .limits.protection import protects
from .limits.rates import RateLimitDecision, RateLimitRule
from .signals import login_blocked, login_locked

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
    login, ask = yield from ask_of(guard, request, typed)
    if ask is None:
        return
    if is_settled(request):
        verdict, reservation = yield from guard.reserve(request, ask)
        if reservation is not None:
            logins_of(request).tries.append(Try(login, reservation))
    else:
        verdict = yield from guard.ask(request, ask, spend=False)
    if not verdict.permitted:
        if request is not None:
            # The view will answer that the password was wrong; the middleware replaces that by the
            # refusal.
            setattr(request, REFUSED_ATTRIBUTE, verdict)
        if isinstance(verdict, RateLimitDecision):
            yield from tell(login_blocked, request, login, verdict)
        raise PermissionDenied


def settle(guard: Guard, request: HttpRequest, response: HttpResponseBase) -> Plan[Action, None]:
    """At the end of a request: failed logins stay counted, the others are given back."""
    yield from guard.settle_logins(request, response)
    for one in logins_of(request).failed:
        yield from tell_failure(guard, request, one.login, one.reservation)


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
        login, ask = yield from ask_of(guard, request, typed)
        if ask is not None:
            reservation = yield from guard.spend(ask)
            if reservation is not None:
                yield from tell_failure(guard, request, login, reservation)

    guard.run(failure())


def tell_failure(
    guard: Guard, request: HttpRequest | None, login: Login, reservation: Reservation
) -> Plan[Action, None]:
    """Write a failed attempt into the audit log, and tell of each block that it began."""
    record("login_failed", account=login.account, address=login.address)
    for bucket in reservation.full:
        # Other attempts may have been given back since.
        verdict = yield from guard.look(bucket)
        if isinstance(verdict, RateLimitDecision) and not verdict.permitted:
            record("login_locked", **login_facts(bucket.key), seconds=verdict.retry_after)
            yield from tell(login_locked, request, login, verdict)


def tell(
    signal: Signal, request: HttpRequest | None, login: Login, decision: RateLimitDecision
) -> Plan[Action, None]:
    """Send a signal about a block; the user is named where the block is the account's."""
    what = login_facts(decision.key or "")["what"]
    user = None if what == "address" else login.user
    model = get_user_model()
    yield from send(signal, model, request=request, what=what, user=user, decision=decision)


def forgive(*, user: Any, request: HttpRequest | None = None, **kwargs: Any) -> None:
    """A receiver of ``user_logged_in``."""
    guard, request = get_guard(), django_request(request)
    if is_settled(request):
        logins_of(request).is_signed_in = True
    rules, visitors = guard.options.login, guard.options.visitors
    if not (guard.options.enabled and (rules.account or rules.pair) and is_protected()):
        return
    account = account_digest(user, visitors)
    accounts = {account, visitors.typed(user.get_username())}
    if not is_settled(request):
        if typed := getattr(request, TYPED_ATTRIBUTE, None):
            accounts.add(visitors.typed(typed))
        keys = {account_key(one) for one in accounts}
        if address := address_of(guard, request):
            keys.add(pair_key(account, password_hash(user), address, visitors))
        guard.run(guard.forgive(keys))
        return
    # The typed name is settled together with its attempt.
    logins = logins_of(request)
    if not device_of(guard, request, user):
        # A known browser has a counter of its own; its success does not forgive the strangers'
        # failures.
        logins.signed_in |= {account_key(one) for one in accounts}
    if rules.device_age:
        device = Device.of(request, rules.device_age) or Device.new()
        logins.device_cookie = device.after_login(user, visitors).cookie()


def free_on_new_password(
    *, sender: Any, instance: Any, created: bool, using: str, **kwargs: Any
) -> None:
    """A receiver of ``post_save``: a new password frees the account."""
    # Django has the text of a password that was set until it is saved.
    is_new = issubclass(sender, get_user_model()) and getattr(instance, "_password", None)
    if not is_new or created:
        return
    guard = get_guard()
    if not (guard.options.enabled and guard.options.login.account and is_protected()):
        return
    key = account_key(account_digest(instance, guard.options.visitors))

    def free() -> None:
        if guard.run(guard.forgive([key])):
            record_unlocked(key)

    transaction.on_commit(free, using=using, robust=True)


def is_settled(request: HttpRequest | None) -> TypeGuard[HttpRequest]:
    """Will the middleware settle this request's logins?"""
    return hasattr(request, LOGINS_ATTRIBUTE)


def is_protected() -> bool:
    """Is the protection among the backends of this site?"""
    return any(map(protects, get_backends()))


def ask_of(
    guard: Guard, request: HttpRequest | None, typed: str | None
) -> Plan[Action, tuple[Login, Ask | None]]:
    """Whose an attempt is, and the limits that it counts against; None if there are none."""
    rules, visitors = guard.options.login, guard.options.visitors
    nobody = Login(typed, None, None, None)
    if request is None:
        if not guard.options.enabled:
            return nobody, None
    else:
        _, is_exempt = yield from guard.screen(request)
        if is_exempt:
            return nobody, None
    address = address_of(guard, request)
    limits: list[tuple[str, RateLimitRule]] = []
    user, account = None, None
    if typed:
        user = yield from find_user(typed)
        account = account_digest(user, visitors) if user else visitors.typed(typed)
        device = device_of(guard, request, user)
        if device is not None and rules.account:
            # It takes the place of the account's counter, which all strangers share.
            own = device.key(user, visitors)
            limits = [(own, rule) for rule in rules.account]
            return Login(typed, user, account, address), Ask.of_login(limits)
        limits = [(account_key(account), rule) for rule in rules.account]
        if address:
            pair = pair_key(account, password_hash(user), address, visitors)
            limits += [(pair, rule) for rule in rules.pair]
    noted = [key for key, _ in limits]
    if address:
        limits += [(f"{address}|{LOGIN}", rule) for rule in rules.address]
    return Login(typed, user, account, address), Ask.of_login(limits, noted)


def address_of(guard: Guard, request: HttpRequest | None) -> str | None:
    """The address that a login counts by; None without a request, or if there is none to trust."""
    if request is None:
        return None
    try:
        return guard.options.visitors.address(request)
    except MissingAddress:
        return None


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
