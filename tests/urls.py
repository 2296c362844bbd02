"""Views of every kind that the middleware meets."""

from typing import Any

from django.contrib import admin
from django.contrib.auth import views as auth_views
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path, re_path
from django.utils.decorators import method_decorator
from django.views import View

from rustauth_django.decorators import rate_limit_exempt


def ok(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    decision = getattr(request, "rate_limit", None)
    return JsonResponse({"remaining": decision and decision.remaining})


async def aok(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return ok(request)


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("as views are")


@rate_limit_exempt
def exempt(request: HttpRequest) -> HttpResponse:
    return ok(request)


@rate_limit_exempt
async def aexempt(request: HttpRequest) -> HttpResponse:
    return ok(request)


@method_decorator(rate_limit_exempt, name="dispatch")
class Exempt(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return ok(request)


auth_patterns = [
    path("sign-in/email", ok),
    path("sign-in/anonymous/", ok),
    path("sign-up/email", ok),
    path("sign-in/<str:provider>", ok),
    path("request-password-reset", ok),
    path("reset-password/<str:token>", ok),
    path("get-session", ok),
    path("async-session", aok),
    path("ok", ok),
]

urlpatterns = [
    path("", ok),
    path("admin/", admin.site.urls),
    path("api/auth/", include(auth_patterns)),
    path(
        "accounts/login/",
        auth_views.LoginView.as_view(template_name="admin/login.html"),
        name="login",
    ),
    path("members/", include(([path("enter/", ok, name="login")], "members"))),
    path("accounts/password_reset/", ok, name="password_reset"),
    path("accounts/signup/", ok, name="account_signup"),
    path("sign-in/email", ok),
    path("items/", ok, name="items"),
    path("items/<int:pk>/", ok, name="item"),
    path("async/", aok, name="async"),
    path("async/items/<int:pk>/", aok),
    re_path(r"^static/page\.html$", ok),
    re_path(r"^years/(?P<year>[0-9]{4})/$", ok),
    path("broken/", broken),
    path("exempt/", exempt),
    path("exempt/async/", aexempt),
    path("exempt/class/", Exempt.as_view()),
    path("grüße/", ok),
    re_path(r"^everything-else/.*$", ok),
]
