import os
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from django.apps import apps
from django.contrib.auth import get_user
from django.contrib.sessions.backends.base import SessionBase
from django.core.handlers.wsgi import WSGIRequest
from django.core.management.base import CommandError
from django.http import HttpRequest
from django.middleware.locale import LocaleMiddleware
from django.urls import Resolver404, resolve
from django.utils.module_loading import import_string
from django.utils.translation import get_language, get_language_from_path, override

from ...checks import MIDDLEWARE_PATH
from ...conf import of_django
from ...connections import get_guard
from ...decorators import Limited, limits_on, name_of
from ...engine.backends import Backend
from ...exceptions import RustAuthError
from ...limits.guard import Ask, Guard
from ...limits.keys import MissingAddress
from ...limits.rates import RateLimitRule
from ...limits.standings import read_bucket
from ...limits.store import RateLimitStore
from ..base import StoresCommand, find_user, one_line, read_address, whole_steps

NO_ADDRESS = 'refused: there is no address to trust, and MISSING_IP is "deny"'


def header(text: str) -> tuple[str, str]:
    """NAME:VALUE as WSGI has it, for argparse."""
    name, separator, value = text.partition(":")
    if not separator or not name.strip():
        raise ArgumentTypeError(f"{text!r} is not NAME:VALUE")
    name = name.strip().upper().replace("-", "_")
    plain = ("CONTENT_TYPE", "CONTENT_LENGTH")
    return name if name in plain else f"HTTP_{name}", value.strip()


class Command(StoresCommand):
    help = "Shows which limits apply to a request, why, and how they stand. Counts nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "path", metavar="PATH", help="The path, with its query if that matters."
        )
        parser.add_argument("--method", default="GET", help="The default is GET.")
        parser.add_argument("--ip", metavar="ADDR", help="The client's address.")
        parser.add_argument(
            "--user",
            metavar="USER",
            help="The signed-in user, by primary key, user name or e-mail address.",
        )
        parser.add_argument(
            "--header",
            type=header,
            action="append",
            default=[],
            metavar="NAME:VALUE",
            help="A header of the request; as often as needed.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        guard = get_guard()
        meta = {"REMOTE_ADDR": "127.0.0.1"}
        if options["ip"] is not None:
            # The header counts only if the peer is one of the site's proxies.
            names = guard.options.visitors.addresses.headers
            meta[names[0] if names else "REMOTE_ADDR"] = str(read_address(options["ip"]))
        meta |= dict(options["header"])
        user = None if options["user"] is None else find_user(options["user"])
        request = build_request(options["path"], options["method"].upper(), meta, user)
        for line in whole_steps(explain(guard, self.stores.backend, request)):
            self.show(line)


def build_request(path: str, method: str, meta: dict[str, str], user: Any) -> HttpRequest:
    """A request without a body, with the attributes that session and user middleware set."""
    path, _, query = path.partition("?")
    decoded = unquote_to_bytes(os.fsencode(path)).decode("latin-1")
    request = WSGIRequest(
        {
            "REQUEST_METHOD": method,
            "PATH_INFO": f"/{decoded.removeprefix('/')}",
            "QUERY_STRING": os.fsencode(query).decode("latin-1"),
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "wsgi.input": BytesIO(),
            "wsgi.url_scheme": "http",
            **meta,
        }
    )
    request.session = SessionBase()
    if apps.is_installed("django.contrib.auth"):
        found = user or get_user(request)

        async def auser() -> Any:
            return found

        request.user, request.auser = found, auser
    return request


def explain(guard: Guard, backend: Backend, request: HttpRequest) -> Iterator[str]:
    """Lines about the limits of a request: which apply, why, their keys, and how they stand."""
    try:
        # Views below a language's prefix are found only while that language is active.
        is_known = has_middleware(LocaleMiddleware)
        language = get_language_from_path(request.path_info) if is_known else None
        with override(language or get_language()):
            yield from _explain(guard, backend, request)
    except RustAuthError:
        raise
    except Exception as error:  # noqa: BLE001  # whatever the site's functions do
        told = f"{type(error).__name__}: {one_line(error)}"
        raise CommandError(f"Such a request fails: {told}") from None


def _explain(guard: Guard, backend: Backend, request: HttpRequest) -> Iterator[str]:
    if not guard.options.enabled:
        yield 'Nothing is limited: RUSTAUTH["RATE_LIMIT"]["ENABLED"] is off, as it is with DEBUG.'
        return
    try:
        match = request.resolver_match = resolve(request.path_info)
    except Resolver404:
        yield f"{request.path_info} is a 404, and these are not limited."
        return
    yield f"{request.method} {request.path_info} reaches {name_of(request, match.func)}"
    response, is_done = guard.run(guard.screen(request))
    if is_done:
        yield "It is refused with 403, by DENY." if response else "It is not limited, by ALLOW."
        return
    if not has_middleware(import_string(MIDDLEWARE_PATH)):
        yield "RateLimitMiddleware is not in MIDDLEWARE."
    elif getattr(match.func, "rate_limit_exempt", False):
        yield "RateLimitMiddleware passes over it: the view is marked with rate_limit_exempt."
    else:
        yield from _of_middleware(guard, backend, request)
    for limited, view in limits_met(request):
        yield from _of_view(guard, backend, request, limited, view)


def _of_middleware(guard: Guard, backend: Backend, request: HttpRequest) -> Iterator[str]:
    limit = guard.run(guard.options.rules.resolve(request))
    if limit is None:
        yield "RateLimitMiddleware does not limit it, by RULES."
        return
    yield from ("", f"limit: {limit.name}", f"why: {limit.why}")
    try:
        address = guard.options.visitors.address(request)
    except MissingAddress:
        yield f"state: {NO_ADDRESS}"
    else:
        ask = Ask.of(limit, address) if address else None
        yield from _states(guard.store, backend, ask, "there is no address to count by")


def _of_view(
    guard: Guard, backend: Backend, request: HttpRequest, limited: Limited, view: Any
) -> Iterator[str]:
    marks = {"a shadow": limited.shadow, "without block": not limited.block}
    marks[f"cost {limited.cost}"] = limited.cost != 1
    told = [f"by {limited.subject.text}", *(mark for mark, is_set in marks.items() if is_set)]
    yield from ("", f"limit: {limited.name(request, view)}")
    yield f"why: rate_limit on the view, {', '.join(told)}"
    if limited.methods is not None and request.method not in limited.methods:
        yield f"state: not limited: only {', '.join(sorted(limited.methods))} counts"
        return
    try:
        ask = guard.run(limited.ask(guard, request, view))
    except MissingAddress:
        yield f"state: {NO_ADDRESS}"
    else:
        yield from _states(guard.store, backend, ask, "there is no rate, or nothing to count by")


def _states(store: RateLimitStore, backend: Backend, ask: Ask | None, why: str) -> Iterator[str]:
    if ask is None:
        yield f"state: not limited: {why}"
        return
    for key, rule in ask.limits:
        yield from (f"rule: {rule}", f"key: {key}")
        yield f"state: {_state(store, backend, key, rule)}"


def _state(store: RateLimitStore, backend: Backend, key: str, rule: RateLimitRule) -> str:
    peek = store.inspection([(key, rule)])
    found = read_bucket(backend, peek.buckets[0].physical)
    if found and not found.fields:
        return "a key of another type; the next request fails and removes it"
    (decision,) = backend.run(peek)
    if not decision.permitted:
        return f"refused for {decision.retry_after} s"
    whole = f", all in {decision.reset_after} s" if decision.reset_after else ""
    return f"{decision.remaining} of {decision.limit} left{whole}"


def has_middleware(kind: type) -> bool:
    """Is this middleware, or a subclass of it, in MIDDLEWARE?"""
    found = map(import_string, of_django("MIDDLEWARE"))
    return any(isinstance(one, type) and issubclass(one, kind) for one in found)


def limits_met(request: HttpRequest) -> Iterator[tuple[Limited, Any]]:
    """The limits that ``rate_limit`` put on the view and on the method that it will call, and
    where.
    """
    assert request.resolver_match
    assert request.method
    view: Any = request.resolver_match.func
    cls = getattr(view, "view_class", None) or getattr(view, "cls", None)
    name = request.method.lower()
    name = (getattr(view, "actions", None) or {}).get(name, name)
    if name == "head" and not hasattr(cls, name):
        name = "get"
    for function in (view, getattr(cls, name, None)):
        for limited in limits_on(function):
            yield limited, function
