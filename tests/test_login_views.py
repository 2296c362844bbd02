"""The strict limit on views that sign in: of those who fail, and of nobody who gets in."""

import pytest
from django.contrib import admin
from django.contrib.auth import authenticate, login
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import include, path

from .people import PASSWORD
from .site import Site

pytestmark = pytest.mark.django_db(transaction=True)

BACKEND = "tests.people.PeopleBackend"
PROTECTION = "rustauth_django.login.LoginProtection"


def api(request: HttpRequest) -> HttpResponse:
    """Signs in, and answers in JSON."""
    user = authenticate(request, **request.POST.dict())
    if user is None:
        return JsonResponse({}, status=401)
    login(request, user)
    return JsonResponse({})


def token(request: HttpRequest) -> HttpResponse:
    """Signs nobody in, and answers 200 in any case."""
    return JsonResponse({"ok": authenticate(request, **request.POST.dict()) is not None})


def back(request: HttpRequest) -> HttpResponse:
    """Leads back where it came from, whatever became of it."""
    user = authenticate(request, **request.POST.dict())
    if user is not None:
        login(request, user)
    return redirect("/")


def own(request: HttpRequest) -> HttpResponse:
    """Looks at passwords by itself, and leads back to its form."""
    return redirect(f"{request.path}?wrong=1")


def code(request: HttpRequest) -> HttpResponse:
    """The first of two steps: asks for a code."""
    return redirect("/code/sent/")


urlpatterns = [
    path("admin/", admin.site.urls),
    path("form/", LoginView.as_view(template_name="admin/login.html", next_page="/"), name="login"),
    path("api/", include(([path("in/", api, name="login")], "api"))),
    path("token/", token, name="account_login"),
    path("back/", back, name="login"),
    path("own/", own, name="login"),
    path("code/", code, name="login"),
    path("sign-up/", code, name="account_signup"),
]

WAYS = ["/form/", "/api/in/", "/token/", "/back/"]
RIGHT = {"username": "ada", "password": PASSWORD}
WRONG = {"username": "ada", "password": "wrong"}


@pytest.fixture
def urlconf() -> str:
    return __name__


@pytest.fixture(params=[[BACKEND], [PROTECTION, BACKEND]], ids=["plain", "protected"])
def local(memory_site: Site, request: pytest.FixtureRequest) -> Site:
    memory_site.settings["AUTHENTICATION_BACKENDS"] = request.param
    memory_site.configure(ENABLED=True, LOGIN={"ACCOUNT": "100/m", "ADDRESS": None})
    return memory_site


@pytest.mark.parametrize("way", WAYS)
def test_an_office_signs_in(local: Site, way: str) -> None:
    """Fifty from one address; and then three failures, and no more."""
    if way == "/token/" and PROTECTION not in local.settings["AUTHENTICATION_BACKENDS"]:
        pytest.skip("without the protection nobody hears that a user was found")
    assert 429 not in local.statuses("POST", way, 50, RIGHT)
    assert 429 not in local.statuses("POST", way, 3, WRONG)
    assert local.statuses("POST", way, 2, WRONG) == [429, 429]


def test_a_step_that_leads_on_is_no_failure(local: Site) -> None:
    """As a form for a code that was sent."""
    assert local.statuses("POST", "/code/", 9, RIGHT) == [302] * 9


def test_the_way_back_to_the_form_is_a_failure(local: Site) -> None:
    """Whoever has looked at the password."""
    assert local.statuses("POST", "/own/", 5, WRONG) == [302] * 3 + [429] * 2


def test_sign_ups_count_all(local: Site) -> None:
    """Each makes an account, or sends a mail."""
    assert local.statuses("POST", "/sign-up/", 5, RIGHT) == [302] * 3 + [429] * 2


def test_headers_tell_what_is_left(local: Site) -> None:
    """After a success as much as before it."""
    left = [local.post("/api/in/", one).headers["RateLimit"] for one in (RIGHT, WRONG, RIGHT)]
    assert [one.split(";")[1] for one in left] == ["r=3", "r=2", "r=2"]


def test_showing_the_form_is_no_attempt(local: Site) -> None:
    """However often."""
    assert local.statuses("GET", "/form/", 9) == [200] * 9


def test_a_site_s_own_rule_counts_all(local: Site) -> None:
    """It says what counts."""
    local.configure(ENABLED=True, RULES=[{"view_name": "login", "window": 60, "max": 2}])
    assert local.statuses("POST", "/form/", 3, RIGHT) == [302, 302, 429]
