"""System checks: every wrong setting, and what should not go into production.

Errors: E001 RUSTAUTH is no dictionary, E002 unknown name, E003 wrong value, E004
settings that exclude each other, E005 the backend cannot be opened, E006 a wrong rule.
Warnings of ``check --deploy``: W001 memory storage, W002 no middleware, W003 its place,
W004 limiter off, W005 every proxy trusted.
"""

from typing import Any

from django.core import checks
from django.core.checks import CheckMessage, Error
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.module_loading import import_string

from .conf import middleware_paths, read
from .connections import build_stores
from .exceptions import InvalidConfig
from .middleware import RateLimitMiddleware

MIDDLEWARE_PATH = "rustauth_django.middleware.RateLimitMiddleware"


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Everything in ``settings.RUSTAUTH`` that cannot work."""
    settings, problems = read()
    found: list[CheckMessage] = [
        Error(f"{path} {message}.", hint=hint, id=f"rustauth_django.{id}")
        for id, path, message, hint in problems
    ]
    try:
        build_stores(settings).close()
    except InvalidConfig as error:
        hint = 'For example "URL": "redis://127.0.0.1:6379/0", or "CACHE": "default".'
        found.append(Error(f"{error}.", hint=hint, id="rustauth_django.E005"))
    return found


def check_deployment(**kwargs: Any) -> list[CheckMessage]:
    """What works, and should not be served to the world."""
    settings, problems = read()
    if problems:
        return []
    warnings: list[CheckMessage] = []
    if settings.cache is None and settings.url.startswith("memory://"):
        warnings.append(
            checks.Warning(
                'RUSTAUTH["URL"] is not set: each process keeps its own state in memory.',
                hint='Set it to "redis://HOST:6379/0", or set RUSTAUTH["CACHE"].',
                id="rustauth_django.W001",
            )
        )
    warnings += _check_middleware()
    if not settings.rate_limit.enabled:
        warnings.append(
            checks.Warning(
                'RUSTAUTH["RATE_LIMIT"]["ENABLED"] is off: no request is limited.',
                hint="Set it to True, or to None for on unless DEBUG.",
                id="rustauth_django.W004",
            )
        )
    if any(network.prefixlen == 0 for network in settings.rate_limit.addresses.trusted_proxies):
        warnings.append(
            checks.Warning(
                'RUSTAUTH["RATE_LIMIT"]["TRUSTED_PROXIES"] trusts every address: no client is'
                " ever found in a forwarded header.",
                hint="List the networks of your own proxies only.",
                id="rustauth_django.W005",
            )
        )
    return warnings


def _check_middleware() -> list[CheckMessage]:
    places: dict[type, list[int]] = {RateLimitMiddleware: [], CsrfViewMiddleware: []}
    for index, path in enumerate(middleware_paths()):
        try:
            found = import_string(path)
        except ImportError:
            continue  # Django itself says so as it starts.
        for kind in places:
            if isinstance(found, type) and issubclass(found, kind):
                places[kind].append(index)
    ours, csrf = places[RateLimitMiddleware], places[CsrfViewMiddleware]
    if not ours:
        return [
            checks.Warning(
                "MIDDLEWARE has no RateLimitMiddleware: no request is limited.",
                hint=f"Add {MIDDLEWARE_PATH!r} at its end.",
                id="rustauth_django.W002",
            )
        ]
    if len(ours) > 1:
        message = "MIDDLEWARE has RateLimitMiddleware twice: each request counts twice."
        hint = "Keep the last one."
    elif csrf and ours[0] < csrf[0]:
        message = (
            "MIDDLEWARE has RateLimitMiddleware before CsrfViewMiddleware: other sites can"
            " spend your visitors' limits with forged forms."
        )
        hint = "Move RateLimitMiddleware to the end."
    else:
        return []
    return [checks.Warning(message, hint=hint, id="rustauth_django.W003")]
