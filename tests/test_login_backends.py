"""The protection among the backends of a site: it protects, or it says so."""

import sys
from secrets import token_hex
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib import admin
from django.contrib.auth import aauthenticate, authenticate
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.contrib.auth.views import LoginView, PasswordResetConfirmView
from django.core.checks import run_checks
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import path
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from django.views.debug import technical_500_response

from rustauth_django import BackendUnavailable, InvalidConfig
from rustauth_django.login import ModelBackend
from rustauth_django.middleware import RateLimitMiddleware

from .people import PASSWORD
from .site import Site

MODEL = "rustauth_django.login.ModelBackend"
FIRST = "rustauth_django.login.LoginProtection"
DJANGO = "django.contrib.auth.backends.ModelBackend"
REMOTE = "django.contrib.auth.backends.RemoteUserBackend"
SECRET = token_hex()
SETTINGS = {"ENABLED": True, "RULES": [{"path": "*", "disabled": True}]}


class Links(BaseBackend):
    """Takes what is in a link, and no password."""

    def authenticate(self, request: HttpRequest | None, link: str = "") -> None:  # type: ignore[override]
        return None


def who(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.user.get_username())


urlpatterns = [
    path("admin/", admin.site.urls),  # whose template is the form
    path("who/", who),
    path("login/", LoginView.as_view(template_name="admin/login.html", next_page="/who/")),
    path(
        "reset/<uidb64>/<token>/",
        PasswordResetConfirmView.as_view(
            template_name="admin/login.html", success_url="/who/", post_reset_login=True
        ),
    ),
]


@pytest.fixture
def urlconf() -> str:
    return __name__


@pytest.fixture
def user(db: None) -> User:
    return User.objects.create_user("ada", password=PASSWORD)


@pytest.mark.parametrize("backends", [[MODEL], [FIRST, DJANGO], [MODEL, DJANGO]])
def test_a_test_client_signs_in(memory_site: Site, user: User, backends: list[str]) -> None:
    """By a backend that knows users."""
    with override_settings(AUTHENTICATION_BACKENDS=backends):
        memory_site.configure(**SETTINGS)
        client = Client()
        client.force_login(user)
        assert client.get("/who/").content == b"ada"


def test_one_backend_needs_no_name(memory_site: Site, user: User) -> None:
    """In Django's own view that signs in after a reset."""
    uid = urlsafe_base64_encode(force_bytes(user.pk))
    start = f"/reset/{uid}/{default_token_generator.make_token(user)}/"
    with override_settings(AUTHENTICATION_BACKENDS=[MODEL]):
        memory_site.configure(**SETTINGS)
        client = Client()
        form = client.get(start).headers["Location"]
        sent = {"new_password1": "a better horse", "new_password2": "a better horse"}
        assert client.post(form, sent).status_code == 302
        assert client.get("/who/").content == b"ada"


def test_the_one_backend_protects(memory_site: Site, user: User) -> None:
    """As the other does: five passwords, and then a wait."""
    with override_settings(AUTHENTICATION_BACKENDS=[MODEL]):
        memory_site.configure(**SETTINGS)
        client = Client()
        right = {"username": "ada", "password": PASSWORD}
        assert client.post("/login/", right).status_code == 302
        for _ in range(5):
            assert client.post("/login/", {**right, "password": "wrong"}).status_code == 200
        assert client.post("/login/", right).status_code == 429


@pytest.mark.django_db(transaction=True)
async def test_the_one_backend_protects_async_code() -> None:
    """With a query and a hash of Django's own."""
    await User.objects.acreate_user("ada", password=PASSWORD)
    rustauth = {"URL": "memory://", "RATE_LIMIT": {"ENABLED": True}}
    with override_settings(AUTHENTICATION_BACKENDS=[MODEL], RUSTAUTH=rustauth):
        assert await aauthenticate(username="ada", password=PASSWORD)
        for _ in range(5):
            assert not await aauthenticate(username="ada", password="wrong")
        assert not await aauthenticate(username="ada", password=PASSWORD)


@pytest.mark.parametrize(
    ("backends", "wrong"),
    [
        ([DJANGO], None),
        ([MODEL], None),
        ([FIRST, DJANGO], None),
        ([REMOTE, f"{__name__}.Links", FIRST, DJANGO], None),
        ([DJANGO, FIRST], DJANGO),
        ([DJANGO, MODEL], DJANGO),
    ],
)
def test_a_backend_before_the_protection_is_an_error(
    memory_site: Site, backends: list[str], wrong: str | None
) -> None:
    """Of the check, and as the site starts; the check may be silenced."""
    memory_site.configure(**SETTINGS)
    with override_settings(AUTHENTICATION_BACKENDS=backends):
        found = [one for one in run_checks() if one.id == "rustauth_django.E007"]
        if wrong is None:
            assert found == []
            RateLimitMiddleware(lambda request: None)
            return
        assert wrong in found[0].msg
        with pytest.raises(InvalidConfig, match=f"has {wrong} before the protection"):
            RateLimitMiddleware(lambda request: None)
        with override_settings(SILENCED_SYSTEM_CHECKS=["rustauth_django.E007"]):
            RateLimitMiddleware(lambda request: None)


@pytest.mark.parametrize("backends", [[MODEL], [FIRST, DJANGO]])
@pytest.mark.parametrize("form", [authenticate, async_to_sync(aauthenticate)])
def test_no_page_of_an_error_shows_a_password(
    memory_site: Site, dead_url: str, backends: list[str], form: Any, db: None
) -> None:
    """Whatever fails while it is looked at."""
    memory_site.base["URL"] = dead_url
    memory_site.configure(**SETTINGS, ON_ERROR="raise")
    with override_settings(AUTHENTICATION_BACKENDS=backends):
        try:
            form(username="ada", password=SECRET)
        except BackendUnavailable:
            page = technical_500_response(RequestFactory().get("/"), *sys.exc_info())
    assert SECRET.encode() not in page.content
    assert b"BackendUnavailable" in page.content


@pytest.mark.django_db
def test_what_has_no_password_is_no_attempt(django_assert_num_queries: Any) -> None:
    """As where another backend looks at a token."""
    with django_assert_num_queries(0):
        for credentials in ({"username": "ada"}, {"password": "x"}, {"token": "x"}):
            assert ModelBackend().authenticate(None, **credentials) is None


@pytest.mark.parametrize("backend", [MODEL, FIRST])
def test_nothing_is_silent_without_the_app(backend: str) -> None:
    """Since no signal would be heard."""
    apps = ["django.contrib.auth", "django.contrib.contenttypes"]
    with override_settings(INSTALLED_APPS=apps, AUTHENTICATION_BACKENDS=[backend]):
        for make in (
            lambda: RateLimitMiddleware(lambda request: None),
            lambda: authenticate(username="ada", password=PASSWORD),
            lambda: async_to_sync(aauthenticate)(username="ada", password=PASSWORD),
        ):
            with pytest.raises(InvalidConfig, match='add "rustauth_django" to INSTALLED_APPS'):
                make()
