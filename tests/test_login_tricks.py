"""Ways around the protection of logins that were tried, and ways to turn it against its owner."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth import authenticate, login
from django.contrib.auth.backends import BaseBackend, RemoteUserBackend
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.core import checks
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path, resolve

from rustauth_django import InvalidConfig, RateLimitStore, rate_limit
from rustauth_django.attempts import typed_name
from rustauth_django.connections import get_guard, get_stores
from rustauth_django.limits.keys import account_digest, account_key
from rustauth_django.login import ModelBackend
from rustauth_django.middleware import RateLimitMiddleware
from rustauth_django.signals import login_locked

from .people import PASSWORD
from .site import Site

pytestmark = pytest.mark.django_db(transaction=True)

MODEL = "rustauth_django.login.ModelBackend"
FIRST = "rustauth_django.login.LoginProtection"
DJANGO = "django.contrib.auth.backends.ModelBackend"
SETTINGS: dict[str, Any] = {
    "ENABLED": True,
    "RULES": [{"path": "*", "disabled": True}],
    "LOGIN": {"ADDRESS": None},
}


class Another(ModelBackend):
    """Ours as well."""


class NoSuper(ModelBackend):
    """Looks at passwords in its own way, and forgets ours."""

    def authenticate(
        self, request: Any, username: Any = None, password: Any = None, **_: Any
    ) -> Any:
        user = User.objects.filter(username=username).first()
        return user if user and user.check_password(password) else None


class ByAddress(BaseBackend):
    """Tries all users of an e-mail address, and of a user name."""

    def authenticate(  # type: ignore[override]
        self, request: Any, username: str = "", password: str = ""
    ) -> Any:
        users = User.objects.filter(email=username) | User.objects.filter(username=username)
        return next((user for user in users if user.check_password(password)), None)


class EmailFirst(BaseBackend):
    """Takes a password, under another name than most."""

    def authenticate(self, request: Any, email: str, password: str) -> None:  # type: ignore[override]
        return None


def sign_in(request: HttpRequest) -> HttpResponse:
    user = authenticate(request, **request.POST.dict())
    if user is not None:
        login(request, user, backend=DJANGO)
    return HttpResponse(status=200 if user else 401)


def streamed(request: HttpRequest) -> StreamingHttpResponse:
    def body() -> Iterator[str]:
        yield str(authenticate(request, **request.POST.dict()) is not None)

    return StreamingHttpResponse(body())


def pin(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=401)


def crash(request: HttpRequest) -> HttpResponse:
    authenticate(request, **request.POST.dict())
    raise RuntimeError


urlpatterns = [
    path("sign-in/", sign_in),
    path("crash/", crash),
    path("pin/", pin, name="login"),
    path("streamed/", streamed),
    path("admin/", admin.site.urls),  # whose template is the form
    path("form/", LoginView.as_view(template_name="admin/login.html", next_page="/"), name="login"),
]


@pytest.fixture
def urlconf() -> str:
    return __name__


def site_of(site: Site, *backends: str, **limits: Any) -> Site:
    site.settings["AUTHENTICATION_BACKENDS"] = list(backends)
    site.configure(**{**SETTINGS, **limits})
    return site


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada", "ada@example.com", PASSWORD)


def wrong(name: str = "ada", **more: str) -> dict[str, str]:
    return {"username": name, "password": "wrong", **more}


def right(name: str = "ada") -> dict[str, str]:
    return {"username": name, "password": PASSWORD}


@pytest.mark.parametrize(
    "backends", [(FIRST, MODEL), (MODEL, f"{__name__}.Another"), (FIRST, f"{__name__}.NoSuper")]
)
def test_two_protected_backends_count_once(
    memory_site: Site, ada: User, backends: tuple[str, ...]
) -> None:
    """Neither never nor twice."""
    site = site_of(memory_site, *backends)
    assert site.statuses("POST", "/sign-in/", 6, wrong()) == [401] * 5 + [429]


def test_a_backend_that_forgets_ours_is_counted_all_the_same(memory_site: Site, ada: User) -> None:
    """One failure after the other, when it is known."""
    site = site_of(memory_site, f"{__name__}.NoSuper")
    site.statuses("POST", "/sign-in/", 5, wrong())
    rules = get_guard().options.login.account
    key = account_key(account_digest(ada, get_guard().options.visitors))
    store: RateLimitStore = get_stores().rate_limit_store
    assert not store.peek(key, rules[0]).permitted


def test_a_denied_client_guesses_nowhere(memory_site: Site, ada: User) -> None:
    """Not even where a password is looked at before the view is chosen."""
    site_of(memory_site, MODEL, DENY=["192.0.2.1"])
    request = HttpRequest()
    request.META["REMOTE_ADDR"] = "192.0.2.1"
    assert authenticate(request, **right()) is None
    request.META["REMOTE_ADDR"] = "192.0.2.2"
    assert authenticate(request, **right()) == ada


@pytest.mark.parametrize(
    ("credentials", "name"),
    [
        ({"username": "ada", "email": "x@example.com", "password": ""}, "ada"),
        ({"username": 12345.0, "password": ""}, "12345.0"),
        ({"otp": "123456", "phone": "+49 30 1234"}, "+49 30 1234"),
        ({"first_name": "Ada", "password": ""}, "Ada"),
        ({"badge": 7, "password": ""}, "7"),
        ({"response": {}, "redirect_name": "next", "user": None}, None),
        ({"username": True, "password": ""}, None),
        ({"token": "secret"}, None),
    ],
)
def test_the_name_is_what_names_somebody(credentials: dict[str, Any], name: str | None) -> None:
    """And no constant of a provider, which would be everybody's account."""
    assert typed_name(credentials) == name


def test_a_backend_with_a_password_of_any_name_is_found() -> None:
    """Before the protection it would look at passwords without end."""
    backends = [f"{__name__}.EmailFirst", FIRST, DJANGO]
    with override_settings(AUTHENTICATION_BACKENDS=backends):
        assert "rustauth_django.E007" in [one.id for one in checks.run_checks()]
        with pytest.raises(InvalidConfig, match="EmailFirst"):
            RateLimitMiddleware(lambda request: None)


def test_limits_on_logins_without_a_protecting_backend_are_found() -> None:
    """They limit nothing."""
    rustauth = {"RATE_LIMIT": {"LOGIN": {"ACCOUNT": "3/m"}}}
    for backend, ids in ((DJANGO, ["rustauth_django.W014"]), (MODEL, [])):
        with override_settings(RUSTAUTH=rustauth, AUTHENTICATION_BACKENDS=[backend]):
            assert [one.id for one in checks.run_checks() if one.id != "models.W036"] == ids


def test_names_that_are_no_fields_are_found() -> None:
    """By manage.py check, and as the site starts."""
    for names, id, words in (
        (["mail"], "rustauth_django.E008", 'Did you mean "email"?'),
        (["email__iexact"], "rustauth_django.E003", 'Like "email".'),
        (["groups"], "rustauth_django.E008", None),
    ):
        with override_settings(RUSTAUTH={"RATE_LIMIT": {"LOGIN": {"NAMES": names}}}):
            found = {one.id: one.hint for one in checks.run_checks()}
            assert words in (found[id], None)
            with pytest.raises(InvalidConfig, match="NAMES"):
                RateLimitMiddleware(lambda request: None)


def test_wrong_limits_on_logins_have_a_hint_of_their_own() -> None:
    """A path is nothing for them."""
    with override_settings(
        RUSTAUTH={"RATE_LIMIT": {"LOGIN": {"ACCOUNT": {"window": 1, "max": 0}}}}
    ):
        (found,) = [one for one in checks.run_checks() if one.id == "rustauth_django.E003"]
    assert "path" not in str(found.hint)


def test_a_scope_of_their_name_is_refused() -> None:
    """It would share counters with the limits on logins."""
    with pytest.raises(InvalidConfig, match="scope must not be 'login'"):
        rate_limit("5/m", scope="login")


def test_a_typed_primary_key_is_nobodys_counter(memory_site: Site, ada: User) -> None:
    """Nor can it be guessed at."""
    site = site_of(memory_site, MODEL)
    site.statuses("POST", "/sign-in/", 6, wrong(f"pk:{ada.pk}"))
    assert site.post("/sign-in/", right()).status_code == 200


def test_many_right_passwords_at_once_pass(memory_site: Site, ada: User) -> None:
    """An office whose people sign in within a second, through a view named login."""
    site_of(memory_site, MODEL, RULES=[], LOGIN={})
    for _ in range(10):
        response = memory_site.post("/form/", right())
        assert response.status_code == 302
        memory_site.client.cookies.clear()
    wrongs = [memory_site.post("/form/", wrong(f"name-{i}")) for i in range(4)]
    assert [one.status_code for one in wrongs] == [200] * 3 + [429]
    assert wrongs[0].headers["RateLimit"].startswith('"sign-in";r=2;')


def test_a_login_view_with_a_check_of_its_own_keeps_its_limit(memory_site: Site) -> None:
    """Three at once: nothing else bounds what is under way there."""
    site_of(memory_site, MODEL, RULES=[], LOGIN={})
    guard = get_guard()
    for _ in range(2):
        assert memory_site.post("/pin/").status_code == 401
    match = resolve("/pin/")
    request = HttpRequest()
    request.resolver_match = match
    assert not guard.bounds(request)
    memory_site.post("/form/", wrong())
    request.resolver_match = resolve("/form/")
    assert guard.bounds(request)


@pytest.mark.parametrize("others", [1, 3, 5])
def test_many_users_of_one_name_count_together(memory_site: Site, ada: User, others: int) -> None:
    """More of them than are told apart are no way around the limit."""
    site = site_of(memory_site, FIRST, f"{__name__}.ByAddress", LOGIN={"NAMES": ["email"]})
    for number in range(others):
        User.objects.create_user(f"eve{number}", ada.email, "own")
    guesses = []
    for _ in range(4):
        guesses += site.statuses("POST", "/sign-in/", 3, wrong(ada.email))
        for number in range(others):
            site.post("/sign-in/", {"username": f"eve{number}", "password": "own"})
    assert guesses == [401] * 5 + [429] * 7


def test_a_crash_is_in_the_audit_log(
    memory_site: Site, ada: User, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody knows how it would have ended, and it counts."""
    site_of(memory_site, MODEL)
    caplog.set_level("INFO", "rustauth_django.audit")
    rustauth = {**memory_site.base, "RATE_LIMIT": SETTINGS, "AUDIT": {}}
    with override_settings(RUSTAUTH=rustauth):
        memory_site.client.raise_request_exception = False
        statuses = memory_site.statuses("POST", "/crash/", 6, right())
    assert statuses == [500] * 5 + [429]
    found = [vars(one)["audit"]["event"] for one in caplog.records if "audit" in vars(one)]
    assert found == ["login_failed"] * 5 + ["login_locked"]


def test_a_site_without_users_starts() -> None:
    """It has a backend for tokens of its own, say."""
    code = """
import django
from django.conf import settings
settings.configure(
    ROOT_URLCONF="__main__",
    INSTALLED_APPS=["rustauth_django"],
    MIDDLEWARE=["rustauth_django.middleware.RateLimitMiddleware"],
    AUTHENTICATION_BACKENDS=["__main__.Tokens"],
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="x",
)
class Tokens:
    def authenticate(self, request, token=None): return None
django.setup()
from django.http import HttpResponse
from django.test import Client
from django.urls import path
urlpatterns = [path("", lambda request: HttpResponse("fine"))]
assert Client().get("/").content == b"fine"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_streamed_body_leaves_nothing_under_way(memory_site: Site, ada: User) -> None:
    """What it does comes after the end of its request."""
    site = site_of(memory_site, MODEL)
    for _ in range(6):
        response = site.post("/streamed/", right())
        if site.runner:
            continue
        assert b"".join(response.streaming_content) == b"True"
    assert site.post("/sign-in/", right()).status_code == 200


def test_what_a_proxy_says_is_no_guess(memory_site: Site, ada: User) -> None:
    """Wrong passwords do not keep the owner's single sign-on out."""
    backends = [FIRST, DJANGO, f"{RemoteUserBackend.__module__}.{RemoteUserBackend.__qualname__}"]
    site = site_of(memory_site, *backends)
    site.statuses("POST", "/sign-in/", 6, wrong())
    assert authenticate(HttpRequest(), remote_user="ada") == ada


class OddUsers:
    """A manager that finds users without regard to case, in its sync form alone."""

    __module__ = __name__

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    def get_by_natural_key(self, name: str) -> Any:
        return self._manager.get(username__iexact=name)


def test_a_managers_own_way_to_find_users_counts_in_both_faces(
    memory_site: Site, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One account, one counter."""
    monkeypatch.setitem(vars(User._meta), "default_manager", OddUsers(User.objects))
    site = site_of(memory_site, FIRST, DJANGO)
    names = ["ada", "ADA", "Ada"] * 2
    assert [site.post("/sign-in/", wrong(name)).status_code for name in names] == [401] * 5 + [429]


def test_names_that_are_no_text_sign_in(memory_site: Site, ada: User) -> None:
    """As where the field of the user name is a number."""
    site_of(memory_site, MODEL)
    ada.get_username = lambda: 7  # type: ignore[method-assign,assignment,return-value]
    request = HttpRequest()
    request.session = SessionStore()
    login(request, ada, backend=DJANGO)
    assert request.session["_auth_user_id"] == str(ada.pk)


def test_an_outage_at_the_end_is_no_error(memory_site: Site, ada: User) -> None:
    """A receiver is told of a block only if it is known."""
    told: list[Any] = []

    def hear(**kwargs: Any) -> None:
        told.append(kwargs)

    login_locked.connect(hear)
    try:
        site = site_of(memory_site, MODEL, ON_ERROR="raise")
        assert site.statuses("POST", "/sign-in/", 5, wrong()) == [401] * 5
    finally:
        login_locked.disconnect(hear)
    assert len(told) == 1
