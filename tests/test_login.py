"""Failed logins, through Django's own form, admin, and ``authenticate()`` of either kind."""

import base64
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth import aauthenticate, authenticate, login
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import override_settings
from django.urls import path
from rest_framework.authentication import BasicAuthentication
from rest_framework.response import Response
from rest_framework.views import APIView

from rustauth_django import rate_limit_store
from rustauth_django.connections import get_guard
from rustauth_django.limits.keys import account_key

from .people import PASSWORD
from .site import Site

# The account is looked up, whether or not it is there.
pytestmark = pytest.mark.django_db

PROTECTION = "rustauth_django.login.LoginProtection"
BACKENDS = [PROTECTION, "tests.people.PeopleBackend"]
SETTINGS = {"ENABLED": True, "RULES": [{"path": "*", "disabled": True}]}


def credentials(request: HttpRequest) -> dict[str, str]:
    return {"username": request.POST["username"], "password": request.POST["password"]}


def sign_in(request: HttpRequest) -> HttpResponse:
    """As an API does it."""
    user = authenticate(
        request, username=request.POST["username"], password=request.POST["password"]
    )
    if user is None:
        return JsonResponse({"error": "wrong"}, status=401)
    login(request, user, backend=BACKENDS[1])
    return JsonResponse({"name": user.get_username()})


async def asign_in(request: HttpRequest) -> HttpResponse:
    user = await aauthenticate(request, **credentials(request))
    return JsonResponse({"ok": user is not None}, status=200 if user else 401)


def batch(request: HttpRequest) -> HttpResponse:
    """Several attempts at once, as some APIs have it."""
    for name in request.POST.getlist("names"):
        authenticate(request, username=name, password="wrong")
    return HttpResponse(status=401)


class Basic(APIView):
    authentication_classes = (BasicAuthentication,)

    def get(self, request: Any) -> Response:
        assert request.user.is_anonymous
        return Response()


urlpatterns = [
    path("batch/", batch),
    path("basic/", Basic.as_view()),
    path("admin/", admin.site.urls),
    path("form/", LoginView.as_view(template_name="admin/login.html", next_page="/form/")),
    path("api/", sign_in),
    path("a/api/", asign_in),
]


@pytest.fixture
def urlconf() -> str:
    return __name__


@pytest.fixture
def protected(site: Site) -> Site:
    site.settings["AUTHENTICATION_BACKENDS"] = BACKENDS
    site.configure(**SETTINGS)
    return site


@pytest.fixture
def local(memory_site: Site) -> Site:
    memory_site.settings["AUTHENTICATION_BACKENDS"] = BACKENDS
    memory_site.configure(**SETTINGS)
    return memory_site


def wrong(name: str = "ada") -> dict[str, str]:
    return {"username": name, "password": "wrong"}


def right(name: str = "ada") -> dict[str, str]:
    return {"username": name, "password": PASSWORD}


def test_the_sixth_attempt_is_refused(protected: Site) -> None:
    """Even with the right password, from any address, as a 429 that says for how long."""
    assert protected.statuses("POST", "/api/", 5, wrong()) == [401] * 5
    refused = protected.post("/api/", right(), peer="192.0.2.1")
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["RateLimit"].startswith('"login";r=0;')
    assert protected.post("/api/", right("grace")).status_code == 200


@pytest.mark.parametrize("path", ["/form/", "/api/", "/a/api/"])
def test_every_way_in_is_covered(local: Site, path: str) -> None:
    """Django's form, a view of one's own, an async one: what one counts holds for all."""
    for _ in range(5):
        assert local.post(path, wrong()).status_code in (200, 401)
    for way in ("/form/", "/api/", "/a/api/"):
        assert local.post(way, right()).status_code == 429


def test_the_page_is_one_for_people(local: Site) -> None:
    """Where they ask for one."""
    local.statuses("POST", "/form/", 5, wrong())
    page = local.post("/form/", right(), accept="text/html")
    assert page.status_code == 429
    assert b"There were too many failed attempts to sign in to this account." in page.content


def test_refused_attempts_extend_nothing(local: Site) -> None:
    """Whoever goes on trying waits no longer than who does not."""
    local.statuses("POST", "/api/", 5, wrong())
    first = int(local.post("/api/", wrong()).headers["Retry-After"])
    statuses = local.statuses("POST", "/api/", 20, wrong())
    assert statuses == [429] * 20
    assert int(local.post("/api/", wrong()).headers["Retry-After"]) <= first


@pytest.mark.django_db(transaction=True)
def test_a_success_forgives_the_account(local: Site) -> None:
    """Whatever name of the user was typed, if ``NAMES`` has its field; and no address."""
    User.objects.create(pk=1, username="ada", email="ada@example.com")
    local.configure(**SETTINGS, LOGIN={"NAMES": ["email"], "DEVICE_COOKIE": None})
    local.statuses("POST", "/api/", 2, wrong("ada@example.com"))
    local.statuses("POST", "/api/", 2, wrong())
    assert local.post("/api/", right("ada@example.com")).status_code == 200
    assert local.statuses("POST", "/api/", 2, wrong()) == [401] * 2
    assert local.statuses("POST", "/api/", 4, wrong("ada@example.com")) == [401] * 3 + [429]
    rule = get_guard().options.login.address[0]
    assert rate_limit_store.peek("127.0.0.1|login", rule).remaining == 20 - 9


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("names", [[], ["email"]])
def test_a_name_that_others_sign_in_by_is_not_forgiven(local: Site, names: list[str]) -> None:
    """One is a user's name and another's e-mail address, one nobody's in the database."""
    User.objects.create(pk=3, username="eve", email="ada@exámple.com")
    User.objects.create(pk=1, username="ada", email="ada@example.com")
    local.configure(**SETTINGS, LOGIN={"NAMES": names, "ADDRESS": None, "DEVICE_COOKIE": None})
    guesses = []
    for _ in range(3):
        guesses += local.statuses("POST", "/api/", 3, wrong("ada@example.com"))
        assert local.post("/api/", right("grace")).status_code == 200
    assert guesses == [401] * 5 + [429] * 4


@pytest.mark.django_db(transaction=True)
def test_a_name_of_two_users_counts_for_both(local: Site) -> None:
    """And the success of one forgives nothing of the other."""
    User.objects.create(pk=2, username="ada@example.com")
    User.objects.create(pk=1, username="ada", email="ada@example.com")
    local.configure(**SETTINGS, LOGIN={"NAMES": ["email"], "ADDRESS": None, "DEVICE_COOKIE": None})
    guesses = []
    for _ in range(3):
        guesses += local.statuses("POST", "/api/", 2, wrong("ada@example.com"))
        local.post("/api/", right("ada@example.com"))
    assert guesses == [401] * 5 + [429]


def test_a_success_does_not_forgive_an_address_that_anybody_can_claim(local: Site) -> None:
    """The e-mail address of an account is not what was typed."""
    local.statuses("POST", "/api/", 5, wrong("ada@example.com"))
    assert local.post("/api/", right("ada")).status_code == 200
    assert local.post("/api/", right("ada@example.com")).status_code == 429


def test_an_address_has_a_limit_too(local: Site) -> None:
    """Twenty failures, whatever the accounts; others are not touched."""
    for index in range(20):
        assert local.post("/api/", wrong(f"name-{index}")).status_code == 401
    assert local.post("/api/", right()).status_code == 429
    assert local.post("/api/", right(), peer="192.0.2.1").status_code == 200


def test_no_difference_tells_whether_there_is_an_account(local: Site) -> None:
    """Same statuses, headers and bodies."""
    answers = {}
    for name in ("ada", "nobody"):
        local.configure(**SETTINGS)
        answers[name] = [
            (answer.status_code, answer.content, sorted(answer.headers))
            for answer in (local.post("/api/", wrong(name)) for _ in range(7))
        ]
        rate_limit_store.clear()
    assert answers["ada"] == answers["nobody"]


def test_case_and_blanks_open_no_second_account(local: Site) -> None:
    """What people type is compared as people do."""
    for name in ("ada", "Ada", " ADA ", "ａｄａ", "ada"):
        local.post("/api/", wrong(name))
    assert local.post("/api/", wrong()).status_code == 429


def test_names_are_in_no_key(local: Site) -> None:
    """KEY-04: an HMAC stands for them."""
    local.post("/api/", wrong("ada@example.com"))
    assert not [key for key in local.buckets() if "ada" in key]
    visitors = get_guard().options.visitors
    assert account_key(visitors.typed("ADA@example.com")) in local.buckets()


def test_without_a_request_the_account_counts(local: Site) -> None:
    """As from a management command, or a worker."""
    for _ in range(5):
        assert authenticate(**wrong()) is None
    assert authenticate(**right()) is None
    assert authenticate(**right("grace")) is not None


def test_settings_say_how_many(local: Site) -> None:
    """Rates of any kind, or None for no limit of that kind."""
    local.configure(**SETTINGS, LOGIN={"ACCOUNT": "2/m", "ADDRESS": None})
    assert local.statuses("POST", "/api/", 3, wrong()) == [401, 401, 429]
    assert local.statuses("POST", "/api/", 2, wrong("grace")) == [401, 401]
    local.configure(**SETTINGS, LOGIN={"ACCOUNT": None, "ADDRESS": ["3/m", "100/h"]})
    assert local.statuses("POST", "/api/", 4, wrong(), peer="192.0.2.7") == [401] * 3 + [429]


def test_a_decoy_switches_nothing_off(local: Site) -> None:
    """Several attempts in one request: each that is tried counts, and the last one is answered."""
    local.statuses("POST", "/api/", 5, wrong("nobody"))
    names = ["nobody", *["ada"] * 5]
    assert local.post("/batch/", {"names": names}).status_code == 401
    assert local.post("/api/", right()).status_code == 429


def test_headers_tell_of_no_account(local: Site) -> None:
    """What it has left would say when its owner signs in."""
    answer = local.post("/api/", wrong())
    assert answer.status_code == 401
    assert "RateLimit" not in answer.headers


def test_rest_framework_s_request_is_djangos(local: Site) -> None:
    """BasicAuthentication hands over one of its own around it."""
    basic = {"authorization": "Basic " + base64.b64encode(b"ada:wrong").decode()}
    assert local.statuses("GET", "/basic/", 5, **basic) == [401] * 5
    refused = local.get("/basic/", **basic)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0


def swap(request: HttpRequest) -> HttpResponse:
    """Looks at somebody else's password between finding a user and signing in."""
    user = authenticate(request, **right("grace"))
    authenticate(request, **wrong(request.POST["other"]))
    login(request, user, backend=BACKENDS[1])
    return HttpResponse()


urlpatterns.append(path("swap/", swap))


def test_a_success_forgives_nobody_else(local: Site) -> None:
    """Whatever is tried in the same request."""
    statuses = local.statuses("POST", "/swap/", 7, {"other": "nobody"})
    assert statuses[:5] == [200] * 5
    assert local.post("/api/", wrong("nobody")).status_code == 429


def test_off_is_off(local: Site) -> None:
    """Without the backend, with limits off, or for an address that is allowed."""
    local.configure(**SETTINGS, ALLOW=["127.0.0.1"])
    assert local.statuses("POST", "/api/", 7, wrong()) == [401] * 7
    local.configure(ENABLED=False)
    assert local.statuses("POST", "/api/", 7, wrong()) == [401] * 7
    with override_settings(AUTHENTICATION_BACKENDS=BACKENDS[1:]):
        local.configure(**SETTINGS)
        local.settings["AUTHENTICATION_BACKENDS"] = BACKENDS[1:]
        local.configure(**SETTINGS)
        assert local.statuses("POST", "/api/", 7, wrong()) == [401] * 7
        assert local.post("/api/", right()).status_code == 200


def test_an_outage_follows_the_policy(local: Site, dead_url: str) -> None:
    """Counted here; or nobody signs in, as a 503; or nobody is stopped."""
    local.base["URL"] = dead_url
    for policy, statuses in [
        ("local", [401] * 5 + [429]),
        ("deny", [503] * 6),
        ("allow", [401] * 6),
    ]:
        local.configure(**SETTINGS, ON_ERROR=policy)
        assert local.statuses("POST", "/api/", 6, wrong()) == statuses


def test_a_missing_address_leaves_the_account(local: Site) -> None:
    """Whose limit holds all the same."""
    assert local.statuses("POST", "/api/", 6, wrong(), peer=None) == [401] * 5 + [429]


def test_nothing_of_a_name_is_said(local: Site, caplog: Any, dead_url: str) -> None:
    """Not in a log line, whatever happens."""
    local.base["URL"] = dead_url
    local.configure(**SETTINGS)
    local.statuses("POST", "/api/", 6, wrong("ada@example.com"))
    assert "ada" not in caplog.text
