"""Counting attempts to sign in: before the password is checked, and once the result is known.

An attempt is counted before its password is checked, and ``RateLimitMiddleware`` settles it at the
end of the request. A failure stays counted. A success is given back, and the account's earlier
failures are forgiven, but not those of the address. Failures under a name by which the database
finds nobody, or several users, are not forgiven: others may sign in by it. A refused attempt does
not count. An attempt that crashes or is cancelled stays counted.

Without a request or without the middleware nothing could give an attempt back. There an attempt
passes while there is room, and a failure is counted when it is known.

An account is counted under an HMAC of its user or of the typed name, so a key does not tell whether
such a user exists.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TypeGuard

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.core.exceptions import (
    MultipleObjectsReturned,
    ObjectDoesNotExist,
    PermissionDenied,
    ValidationError,
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
    MissingAddress,
    account_digest,
    account_key,
    login_facts,
    pair_key,
    password_hash,
)
from .limits.logins import LOGINS_ATTRIBUTE, Login, Try, logins_of
from .limits.operations import Bucket
from .limits.outages import Action
from .limits.protection import is_protected
from .limits.rates import RateLimitDecision, RateLimitRule
from .signals import login_blocked, login_locked

# Names of credentials that Django takes for secrets.
SECRETS = re.compile("api|token|key|secret|password|signature", re.IGNORECASE)
# No user, several users of one name, no such method, a value that no column can hold, or no
# database: the backends deal with each of these themselves.
NOBODY = (
    *(ObjectDoesNotExist, MultipleObjectsReturned, ValidationError),
    *(AttributeError, TypeError, ValueError, OverflowError, Error),
)
# Credentials that name somebody, beside the fields of the user model.
USUAL_NAMES = ("email", "login", "phone", "phone_number", "mobile", "identifier")
NO_NAMES = (type(None), bool, dict, list, tuple, set)
# Where Django's own manager of users is.
DJANGOS = "django.contrib.auth.base_user"
# How many users of one name are told apart.
MAX_SAME = 3

TYPED_ATTRIBUTE = "_rate_limit_typed"


def check(guard: Guard, request: HttpRequest | None, typed: str | None) -> Plan[Action, None]:
    """Count an attempt before its password is checked. Only the name is used for it."""
    request = django_request(request)
    if request is not None:
        setattr(request, TYPED_ATTRIBUTE, typed)
        # An earlier attempt of the same request may have failed; this one has not.
        setattr(request, REFUSED_ATTRIBUTE, None)
    if is_settled(request) and logins_of(request).is_pending(typed):
        return  # another protected backend has counted it
    login, ask = yield from ask_of(guard, request, typed)
    if ask is None:
        return
    if is_settled(request):
        verdict, reservation = yield from guard.reserve(request, ask)
        if reservation is not None:
            logins_of(request).tries.append(Try(login, reservation))
            guard.learn(request)
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
    logins = logins_of(request)
    yield from guard.settle_logins(request, response)
    for one in logins.failed:
        yield from tell_failure(guard, request, one.login, one.reservation.full)
    for typed in logins.missed:
        yield from count(guard, request, typed)


def count_failure(
    *, credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any
) -> None:
    """A receiver of ``user_login_failed``."""
    request = django_request(request)
    if is_settled(request):
        logins_of(request).has_failed = True
    if getattr(request, REFUSED_ATTRIBUTE, None) is not None or not is_protected():
        return
    typed = typed_name(credentials)
    if is_settled(request):
        logins_of(request).fail(typed)
        return
    guard = get_guard()
    # The signal has only asterisks in place of a secret.
    guard.run(count(guard, request, getattr(request, TYPED_ATTRIBUTE, None) or typed))


def count(guard: Guard, request: HttpRequest | None, typed: str | None) -> Plan[Action, None]:
    """Count a failure that was not counted before its password was checked."""
    try:
        login, ask = yield from ask_of(guard, request, typed)
    except PermissionDenied:
        return  # no password of a client on the list DENY was checked
    if ask is None:
        record("login_failed", account=login.account, address=login.address)
        return
    verdict, reservation = yield from guard.spend(ask)
    if verdict.permitted:
        full = reservation.full if reservation else ()
        yield from tell_failure(guard, request, login, full)


def tell_failure(
    guard: Guard, request: HttpRequest | None, login: Login, full: Iterable[Bucket]
) -> Plan[Action, None]:
    """Write a failed attempt into the audit log, and tell of each block that it began, of which
    ``full`` are the buckets.
    """
    record("login_failed", account=login.account, address=login.address)
    for bucket in full:
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
    if not is_settled(request):
        keys = {account_key(account)}
        if address := address_of(guard, request):
            keys.add(pair_key(account, password_hash(user), address, visitors))
        guard.run(guard.forgive(keys))
        return
    # The typed name is settled together with its attempt.
    logins = logins_of(request)
    if not device_of(guard, request, user):
        # A known browser has a counter of its own; its success does not forgive the strangers'
        # failures.
        logins.signed_in.add(account_key(account))
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


def accounts_of(user: Any, guard: Guard) -> set[str]:
    """The HMACs that a user's failed logins may be counted under: of the user, and of the names."""
    visitors, names = guard.options.visitors, guard.options.login.names
    typed = [user.get_username(), *(getattr(user, field, None) for field in names)]
    spelled = [visitors.typed(str(name)) for name in typed if name not in (None, "")]
    return {account_digest(user, visitors), *spelled}


def ask_of(
    guard: Guard, request: HttpRequest | None, typed: str | None
) -> Plan[Action, tuple[Login, Ask | None]]:
    """Whose an attempt is, and the limits that it counts against; None if there are none."""
    rules, visitors = guard.options.login, guard.options.visitors
    folded = visitors.typed(typed) if typed else None
    address = address_of(guard, request)
    if request is None:
        if not guard.options.enabled:
            return Login(typed, (), folded, address), None
    else:
        refused, is_exempt = yield from guard.screen(request)
        if refused is not None:
            raise PermissionDenied
        if is_exempt:
            return Login(typed, (), folded, address), None
    limits: list[tuple[str, RateLimitRule]] = []
    login = Login(typed, (), folded, address)
    if typed and folded:
        users = yield from find_users(typed, rules.names)
        accounts = [account_digest(user, visitors) for user in users[:MAX_SAME]]
        if len(users) != 1:
            # Of nobody, or of several: there may be more of them than are told apart.
            accounts.append(folded)
        login = Login(typed, users, accounts[0], address)
        device = device_of(guard, request, login.user)
        if device is not None and rules.account:
            # It takes the place of the account's counter, which all strangers share.
            own = device.key(login.user, visitors)
            return login, Ask.of_login([(own, rule) for rule in rules.account])
        limits = [(account_key(one), rule) for one in accounts for rule in rules.account]
        if address and rules.pair:
            password = password_hash(login.user)
            pairs = [pair_key(one, password, address, visitors) for one in accounts]
            limits += [(pair, rule) for pair in pairs for rule in rules.pair]
    noted = [key for key, _ in limits]
    if address:
        limits += [(f"{address}|{LOGIN}", rule) for rule in rules.address]
    return login, Ask.of_login(limits, noted)


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
    number. None if they name nobody, as those of a provider do.
    """
    model = get_user_model()
    fields = [field.name for field in model._meta.get_fields() if not SECRETS.search(field.name)]
    for field in ("username", model.USERNAME_FIELD, *USUAL_NAMES, *fields):
        value = credentials.get(field)
        if not isinstance(value, NO_NAMES) and value != "":
            return str(value)
    # Else what is with a secret, if there is only one such thing.
    others = [name for name in credentials if not SECRETS.search(name)]
    value = credentials[others[0]] if len(others) == 1 < len(credentials) else None
    return None if isinstance(value, NO_NAMES) or value == "" else str(value)


def find_users(name: str, fields: tuple[str, ...]) -> Plan[Action, tuple[Any, ...]]:
    """The users whom the database finds by the typed name: by the natural key, and by these fields.

    It is asked for every attempt, so that the time of an answer does not tell whether such a user
    exists.
    """
    found: tuple[Any, ...] = yield Call(_find_users, (name, fields), twin=_afind_users)
    return found


def _find_users(name: str, fields: tuple[str, ...]) -> tuple[Any, ...]:
    manager, found = get_user_model()._default_manager, []
    with suppress(*NOBODY):
        found.append(manager.get_by_natural_key(name))
    for field in fields:
        with suppress(*NOBODY):
            found += manager.filter(**{f"{field}__iexact": name})[: MAX_SAME + 1]
    return tuple({user.pk: user for user in found}.values())


async def _afind_users(name: str, fields: tuple[str, ...]) -> tuple[Any, ...]:
    manager: Any = get_user_model()._default_manager
    found: list[Any] = []
    # A manager that finds users in its own way may have a sync method for it alone.
    with suppress(*NOBODY):
        homes = manager.get_by_natural_key.__module__, manager.aget_by_natural_key.__module__
        if homes[0] != homes[1] == DJANGOS:
            found.append(await sync_to_async(manager.get_by_natural_key)(name))
        else:
            found.append(await manager.aget_by_natural_key(name))
    for field in fields:
        with suppress(*NOBODY):
            found += [
                one async for one in manager.filter(**{f"{field}__iexact": name})[: MAX_SAME + 1]
            ]
    return tuple({user.pk: user for user in found}.values())
