"""System checks: every wrong setting, and what should not go into production.

Errors: E001 RUSTAUTH is no dictionary, E002 unknown name, E003 wrong value, E004 settings that
exclude each other, E005 the backend cannot be opened, E006 a wrong rule, E007 an authentication
backend that takes passwords before the protection of logins, E008 and E010 a name that is no field
of the user model, E009 a peer that cannot be opened, E011 the place of the middleware of peers.
Warnings of ``check --deploy``: W001 memory storage, W002 no middleware, W003 its place, W004
limiter off, W005 every proxy trusted, W006 strict limits loosened by a broad rule, W007 a cache
whose connections wait for long, W008 proxies without a header, W012 304 responses without headers,
W017 keys of a peer that are not fetched by https.
Warnings of every ``check``: W009 a rule for what the URLconf does not have, W010 a one-time
password reset that is not used, W011 an audit log that is dropped, W013 limits of django-allauth
that answer first, W014 limits on logins without a protecting backend, W015 a field that does not
tell the users of a peer apart, W016 middleware that comes before that of peers.
Info: I001 limits are off, since DEBUG is on.
"""

import logging
from collections.abc import Iterator
from importlib import import_module
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.middleware.csrf import CsrfViewMiddleware
from django.middleware.http import ConditionalGetMiddleware
from django.urls import NoReverseMatch, Resolver404, URLResolver, get_resolver, resolve, reverse
from django.urls.resolvers import LocalePrefixPattern
from django.utils.module_loading import import_string

from .audit import LOGGER as AUDIT_LOGGER
from .conf import Settings, of_django, read_settings
from .conf.sections import did_you_mean, quote
from .connections import build_wiring, client_of_cache, open_settings
from .exceptions import InvalidConfig
from .limits.clients import Network
from .limits.paths import base, matches, normalize_path
from .limits.protection import (
    FIRST,
    NAMES,
    UNPROTECTED,
    fields_of_users,
    is_protected,
    protects,
    unknown_names,
    unprotected,
    unprotected_backend,
)
from .limits.rules import SIGN_IN_PREFIXES, STRICT_SIGN_IN, RuleEntry, strict_path_limit

# By their paths: the package is not needed.
ALLAUTH_SETTINGS = "allauth.account.app_settings"
ALLAUTH_ADAPTER = "allauth.account.adapter.get_adapter"
OUR_ADAPTER = "rustauth_django.contrib.allauth.AccountAdapter"
ADD_PROTECTION = (
    'Set AUTHENTICATION_BACKENDS = ["rustauth_django.login.ModelBackend"], or put'
    " rustauth_django.login.LoginProtection first."
)
# By its path: nothing of it is loaded where there are no peers.
PEER_CHECKS = "rustauth_django.contrib.peers.checks"
MIDDLEWARE_PATH = "rustauth_django.middleware.RateLimitMiddleware"


def warning(id: str, message: str, hint: str) -> CheckMessage:
    return checks.Warning(message, hint=hint, id=f"rustauth_django.{id}")


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Everything in ``settings.RUSTAUTH`` that cannot work."""
    settings, problems = read_settings()
    found: list[CheckMessage] = [
        Error(f"{path} {message}.", hint=hint, id=f"rustauth_django.{id}")
        for id, path, message, hint in problems
    ]
    try:
        build_wiring(settings, open_settings(settings)).stores.close()
    except InvalidConfig as error:
        hint = 'For example "URL": "redis://127.0.0.1:6379/0", or "CACHE": "default".'
        found.append(Error(f"{error}.", hint=hint, id="rustauth_django.E005"))
    return found


def check_debug(**kwargs: Any) -> list[CheckMessage]:
    """Limits that are off because DEBUG is on."""
    settings, problems = read_settings()
    if problems or settings.rate_limit.enabled or settings.rate_limit.is_set:
        return []
    message = "Nothing is limited while DEBUG is on."
    hint = 'Set RUSTAUTH["RATE_LIMIT"]["ENABLED"] to True to have limits, or to False to hide this.'
    return [checks.Info(message, hint=hint, id="rustauth_django.I001")]


def check_audit(**kwargs: Any) -> list[CheckMessage]:
    """An audit log that nobody keeps."""
    settings, problems = read_settings()
    logger = logging.getLogger(AUDIT_LOGGER)
    if problems or settings.audit is None:
        return []
    if logger.isEnabledFor(logging.INFO) and logger.hasHandlers():
        return []
    message = f'RUSTAUTH["AUDIT"] is set, but the logger {AUDIT_LOGGER!r} drops its lines.'
    hint = "Give this logger a handler and the level INFO in LOGGING."
    return [warning("W011", message, hint)]


def check_peers(**kwargs: Any) -> list[CheckMessage]:
    """Peers that cannot work."""
    settings, problems = read_settings()
    if problems or not settings.peers:
        return []
    return list(import_module(PEER_CHECKS).find_problems(settings))


def check_logins(**kwargs: Any) -> list[CheckMessage]:
    """A protection of logins that is missing, or that does not work as the site means it."""
    settings, problems = read_settings()
    rules = settings.rate_limit.login
    found: list[CheckMessage] = []
    backend = unprotected_backend()
    if backend is not None:
        found.append(Error(f"{unprotected(backend)}.", hint=FIRST, id=UNPROTECTED))
    if problems:
        return found
    found += [
        Error(
            f"{NAMES} has {quote(name)}, which is no field of the user model.",
            hint=did_you_mean(name, fields_of_users()),
            id="rustauth_django.E008",
        )
        for name in unknown_names(rules.names)
    ]
    if rules.is_set and not is_protected():
        message = 'RUSTAUTH["RATE_LIMIT"]["LOGIN"] limits nothing without a protecting backend.'
        found.append(warning("W014", message, ADD_PROTECTION))
    return found


def check_allauth(**kwargs: Any) -> list[CheckMessage]:
    """django-allauth's own limits on logins, which answer before the protection of logins."""
    if not (apps.is_installed("allauth.account") and is_protected()):
        return []
    limits, adapter = import_string(ALLAUTH_SETTINGS), import_string(ALLAUTH_ADAPTER)
    hints = []
    if limits.RATE_LIMITS.get("login_failed") and not protects(adapter()):
        hints.append(f"Set ACCOUNT_ADAPTER = {OUR_ADAPTER!r}.")
    methods = {str(getattr(one, "value", one)) for one in limits.LOGIN_METHODS}
    settings, _ = read_settings()
    names = (get_user_model().USERNAME_FIELD, *settings.rate_limit.login.names)
    if "email" in methods and "email" not in names:
        hints.append(f'Set {NAMES} = ["email"].')
    if limits.RATE_LIMITS.get("login"):
        hints.append('Set ACCOUNT_RATE_LIMITS = {"login": None}.')
    if not hints:
        return []
    message = "The protection of logins does not know what django-allauth does."
    return [warning("W013", message, " ".join(hints))]


def check_urls(**kwargs: Any) -> list[CheckMessage]:
    """Rules for views and routes that the URLconf does not have."""
    settings, problems = read_settings()
    selectors = [entry.selector for entry in settings.rate_limit.rules.entries]
    if problems or not any(selector.by in ("view_name", "route") for selector in selectors):
        return []
    known = {"view_name": set[str](), "route": set[str]()}
    for view_name, route in walk_urls(get_resolver()):
        known["view_name"].add(view_name)
        known["route"].add(route)
    return [
        warning(
            "W009",
            f'RUSTAUTH["RATE_LIMIT"]["RULES"][{index}] is for the {selector.by}'
            f" {quote(selector.value)}, which the URLconf does not have: it limits nothing.",
            did_you_mean(selector.value, known[selector.by]),
        )
        for index, selector in enumerate(selectors)
        if selector.by in known and selector.value not in known[selector.by]
    ]


def check_resets(**kwargs: Any) -> list[CheckMessage]:
    """A one-time password reset in the URLconf, while links lead to Django's own."""
    if not any(getattr(view, "is_one_time", False) for view in walk_views(get_resolver())):
        return []
    try:
        path = reverse("password_reset_confirm", kwargs={"uidb64": "MQ", "token": "a-b"})
        found = resolve(path).func
    except (NoReverseMatch, Resolver404):
        return []
    if getattr(getattr(found, "view_class", None), "is_one_time", False):
        return []
    message = (
        f"Password reset links lead to {path}, a view that does not use them up: they work more"
        " than once."
    )
    hint = "Put the app's PasswordResetConfirmView before that view, at the same path."
    return [warning("W010", message, hint)]


def walk_views(resolver: URLResolver) -> Iterator[Any]:
    """The class of every view that has one."""
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            yield from walk_views(pattern)
        else:
            yield getattr(pattern.callback, "view_class", None)


def walk_urls(
    resolver: URLResolver, namespaces: tuple[str, ...] = (), route: str = ""
) -> Iterator[tuple[str, str]]:
    """Name and route of every view, as ``ResolverMatch`` has them, without languages."""
    for pattern in resolver.url_patterns:
        is_language = isinstance(pattern.pattern, LocalePrefixPattern)
        own = "" if is_language else str(pattern.pattern)
        joined = route + own.removeprefix("^") if route else own
        if isinstance(pattern, URLResolver):
            inner = (*namespaces, pattern.namespace) if pattern.namespace else namespaces
            yield from walk_urls(pattern, inner, joined)
        else:
            yield ":".join([*namespaces, pattern.name or pattern.lookup_str]), joined


def check_deployment(**kwargs: Any) -> list[CheckMessage]:
    """Settings that work, but that a public site should not have."""
    settings, problems = read_settings()
    if problems:
        return []
    of_peers = import_module(PEER_CHECKS).find_dangers(settings) if settings.peers else ()
    return [*_check_middleware(), *_check_values(settings), *of_peers]


def _check_values(settings: Settings) -> Iterator[CheckMessage]:
    if settings.cache is None and settings.url.startswith("memory://"):
        yield warning(
            "W001",
            'RUSTAUTH["URL"] is memory://: each process keeps its own state.',
            'Set it to "redis://HOST:6379/0", or set RUSTAUTH["CACHE"].',
        )
    if not settings.rate_limit.enabled:
        yield warning(
            "W004",
            'RUSTAUTH["RATE_LIMIT"]["ENABLED"] is off: no request is limited.',
            "Set it to True, or to None for on unless DEBUG.",
        )
    addresses = settings.rate_limit.visitors.addresses
    if trusts_everyone(addresses.trusted_proxies):
        yield warning(
            "W005",
            'RUSTAUTH["RATE_LIMIT"]["TRUSTED_PROXIES"] trusts every address: no client is'
            " ever found in a forwarded header.",
            "List the networks of your own proxies only.",
        )
    if addresses.trusted_proxies and not addresses.headers:
        yield warning(
            "W008",
            'RUSTAUTH["RATE_LIMIT"]["TRUSTED_PROXIES"] has no effect without IP_HEADERS: the'
            " client is always the peer.",
            'Name the header that your proxies write, like "X-Forwarded-For".',
        )
    for index, entry in enumerate(settings.rate_limit.rules.entries):
        if swallows_sign_in(entry, settings.rate_limit.rules.base_path):
            yield warning(
                "W006",
                f'RUSTAUTH["RATE_LIMIT"]["RULES"][{index}] takes the place of the strict limits'
                " on sign-in paths.",
                "Make its path narrower, or put a rule for the sign-in paths before it.",
            )
            break
    if settings.cache is not None and not is_quick(settings.cache):
        yield warning(
            "W007",
            f"The connections of the cache {settings.cache!r} wait for longer than a second"
            " when the server hangs, and each request with them.",
            "Set SOCKET_TIMEOUT (django-redis) or socket_timeout in its OPTIONS, to 0.5 or so.",
        )


def trusts_everyone(networks: tuple[Network, ...]) -> bool:
    """Do these networks together cover all addresses?"""
    v4 = collapse_addresses(n for n in networks if isinstance(n, IPv4Network))
    v6 = collapse_addresses(n for n in networks if isinstance(n, IPv6Network))
    return any(n.prefixlen == 0 for n in v4) or any(n.prefixlen == 0 for n in v6)


def swallows_sign_in(entry: RuleEntry, base_path: str) -> bool:
    """Does a broad rule replace RustAuth's strict limits (QUIRK-28)?"""
    selector, rule = entry.selector, entry.rule
    fixed, star, _ = selector.value.partition("*")
    is_meant = any(strict_path_limit(normalize_path(fixed, start)) for start in ("/", base_path))
    if selector.by != "path" or not star or is_meant:
        return False
    if selector.methods is not None and "POST" not in selector.methods:
        return False
    if callable(rule):
        return False  # it sees the strict rule, and knows
    strict = STRICT_SIGN_IN
    if rule and any(one.max * strict.window_ms <= strict.max * one.window_ms for one in rule):
        return False
    path = SIGN_IN_PREFIXES[0]
    return any(matches(selector.value, f"{start}{path}/email") for start in ("", base(base_path)))


def is_quick(alias: str) -> bool:
    """Do a cache's connections time out within a second?"""
    try:
        timeout = client_of_cache(alias).connection_pool.connection_kwargs.get("socket_timeout")
    except InvalidConfig:
        return True  # E005 says more.
    return timeout is not None and timeout <= 1


def _check_middleware() -> Iterator[CheckMessage]:
    limiter: type = import_string(MIDDLEWARE_PATH)
    places: dict[type, list[int]] = {
        kind: [] for kind in (limiter, CsrfViewMiddleware, ConditionalGetMiddleware)
    }
    for index, path in enumerate(of_django("MIDDLEWARE")):
        try:
            found = import_string(path)
        except ImportError:
            continue  # Django itself says so as it starts.
        for kind in places:
            if isinstance(found, type) and issubclass(found, kind):
                places[kind].append(index)
    ours, csrf, conditional = places.values()
    if not ours:
        yield warning(
            "W002",
            "MIDDLEWARE has no RateLimitMiddleware: only decorated views are limited.",
            f"Add {MIDDLEWARE_PATH!r} at its end.",
        )
    elif len(ours) > 1:
        yield warning(
            "W003",
            "MIDDLEWARE has RateLimitMiddleware twice: each request counts twice.",
            "Keep the last one.",
        )
    elif csrf and ours[0] < csrf[0]:
        yield warning(
            "W003",
            "MIDDLEWARE has RateLimitMiddleware before CsrfViewMiddleware: other sites can"
            " spend your visitors' limits with forged forms.",
            "Move RateLimitMiddleware to the end.",
        )
    if ours and conditional and conditional[0] < ours[0]:
        yield warning(
            "W012",
            "MIDDLEWARE has ConditionalGetMiddleware before RateLimitMiddleware: its 304 responses"
            " have no RateLimit headers.",
            "Move ConditionalGetMiddleware behind RateLimitMiddleware.",
        )
