"""Views that say their own limits, each under WSGI's way of calling and under ASGI's."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django import forms
from django.contrib.auth.models import AnonymousUser, User
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.views import View

from rustauth_django import RateLimitRule
from rustauth_django.decorators import rate_limit

urlpatterns: list[URLPattern] = []


def ok(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    decision = getattr(request, "rate_limit", None)
    return JsonResponse({"permitted": decision and decision.permitted})


def asking(view: Any) -> Any:
    """The async form of a view."""

    @wraps(view)
    async def asked(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        await asyncio.sleep(0)
        return view(request, **kwargs)

    return asked


def views(route: str, *rates: Any, **options: Any) -> Callable[[Any], Any]:
    """Serve a view at ``route`` and its async form at ``a/route``."""

    def serve(view: Any) -> Any:
        for prefix, form in (("", view), ("a/", asking(view))):
            limited = rate_limit(*rates, **options)(form)
            assert iscoroutinefunction(limited) == bool(prefix)
            urlpatterns.append(path(prefix + route, limited))
        return view

    return serve


def named(name: str) -> Any:
    """A view of its own name."""

    @wraps(ok)
    def view(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        return ok(request, **kwargs)

    view.__qualname__ = name
    return view


def by_plan(request: HttpRequest) -> Any:
    plan = request.headers.get("plan")
    if plan == "none":
        return None
    return ["9/m", RateLimitRule(60, 3)] if plan == "many" else "1/m"


async def aby_plan(request: HttpRequest) -> Any:
    return by_plan(request)


def tenant(request: HttpRequest) -> str | None:
    return request.headers.get("tenant")


async def atenant(request: HttpRequest) -> str | None:
    return tenant(request)


def teapot(request: HttpRequest, response: HttpResponse) -> bool:
    return response.status_code == 418


async def ateapot(request: HttpRequest, response: HttpResponse) -> bool:
    return teapot(request, response)


for name, rates, options in [
    ("two", ["2/m"], {}),
    ("other", ["2/m"], {}),
    ("several", ["3/m; 5/h"], {}),
    ("shared-a", ["2/m"], {"scope": "shared"}),
    ("shared-b", ["2/m"], {"scope": "shared"}),
    ("posts", ["1/m"], {"methods": "post"}),
    ("costly", ["5/m"], {"cost": 2}),
    ("open", ["1/m"], {"block": False}),
    ("shadow", ["1/m"], {"shadow": True}),
    ("plan", [by_plan], {}),
    ("async-plan", [aby_plan], {}),
    ("user", ["1/m"], {"key": "user"}),
    ("user-or-ip", ["1/m"], {"key": "user_or_ip"}),
    ("header", ["1/m"], {"key": "header:X-Api-Key"}),
    ("form", ["1/m"], {"key": "post:email"}),
    ("query", ["1/m"], {"key": "get:q"}),
    ("json", ["1/m"], {"key": "json:email"}),
    ("both", ["1/m"], {"key": ("ip", "json:email")}),
    ("tenant", ["1/m"], {"key": tenant}),
    ("async-tenant", ["1/m"], {"key": "tests.limited.atenant"}),
    ("deny", ["1/m"], {"on_error": "deny"}),
    ("allow", ["1/m"], {"on_error": "allow"}),
    ("local", ["1/m"], {"on_error": "local"}),
    ("raise", ["1/m"], {"on_error": "raise"}),
]:
    views(name, *rates, **options)(named(name))


def answer(request: HttpRequest) -> HttpResponse:
    """The status that was asked for; 1 raises a 404, 2 anything else."""
    status = int(request.GET.get("status", "200"))
    if status == 1:
        raise Http404
    if status == 2:
        raise RuntimeError("as views do")
    return HttpResponse(status=status)


for name, on in [
    ("failures", "failure"),
    ("successes", "success"),
    ("teapots", teapot),
    ("async-teapots", ateapot),
    ("errors", lambda request, response: response.status_code == 404),
]:
    views(name, "2/m", on=on)(answer)


class NameForm(forms.Form):
    name = forms.CharField()


@views("form-failures", "2/m", on="failure")
def show_form(request: HttpRequest) -> HttpResponse:
    form = NameForm(request.POST or None)
    form.is_valid()
    return TemplateResponse(request, engines["django"].from_string("{{ form }}"), {"form": form})


class Plain(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return ok(request)


class Asking(View):
    async def get(self, request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(0)
        return ok(request)


limited_class = method_decorator(rate_limit("2/m"), name="dispatch")
for prefix, base in (("", Plain), ("a/", Asking)):
    for number in (1, 2):
        cls = limited_class(type(f"{base.__name__}{number}", (base,), {"__module__": __name__}))
        urlpatterns.append(path(f"{prefix}class-{number}", cls.as_view()))
    method = method_decorator(rate_limit("2/m"), name="get")(
        type(f"Get{base.__name__}", (base,), {"get": base.get})
    )
    urlpatterns.append(path(f"{prefix}method", method.as_view()))
    urlpatterns.append(path(f"{prefix}as-view", rate_limit("2/m")(base.as_view())))


class ReadingMiddleware:
    """Reads bodies as a stream, and keeps nothing."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        request.read()
        return self.get_response(request)


class WhoMiddleware:
    """Signs in whom the header names, without a database."""

    sync_capable, async_capable = True, False

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        who = request.headers.get("who")
        user = User(pk=int(who), username=f"user-{who}") if who else AnonymousUser()

        async def auser() -> Any:
            return user

        request.user, request.auser = user, auser
        return self.get_response(request)


class TokenMiddleware(WhoMiddleware):
    """Sets the user alone, as middleware for tokens does; the session has another."""

    def __call__(self, request: HttpRequest) -> Any:
        async def auser() -> Any:
            return AnonymousUser()

        who = request.headers.get("who")
        request.user, request.auser = User(pk=int(who or 0)), auser
        return self.get_response(request)


class Partial(partial[Any]):
    """As Django's own resolver takes it, of either kind."""


def stacked() -> Iterator[URLPattern]:
    """Two limits of the same rate, which count apart."""
    for prefix, form in (("", answer), ("a/", asking(answer))):
        both = rate_limit("2/m")(rate_limit("2/m", on="failure")(form))
        yield path(f"{prefix}stacked", both)
        both = rate_limit(RateLimitRule(60, 9))(rate_limit(RateLimitRule(50, 3))(form))
        yield path(f"{prefix}stacked-rustauth", both)
        refused = rate_limit("1/m")(form)
        around = rate_limit("5/m", on="success")(rate_limit("5/m", on="failure")(refused))
        yield path(f"{prefix}around", around)
        for number, view in ((1, form), (2, asking(ok) if prefix else ok)):
            yield path(f"{prefix}partial-{number}", rate_limit("1/m")(Partial(view)))


urlpatterns += stacked()
