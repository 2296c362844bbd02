"""The owner gets in: a browser that has signed in has a counter of its own."""

import io
from typing import Any

import pytest
from django.contrib.auth import authenticate, login
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from rustauth_django import rate_limit_store
from rustauth_django.connections import get_guard
from rustauth_django.contrib.testing import fresh_rate_limits
from rustauth_django.limits.devices import COOKIE, MAX_ACCOUNTS
from rustauth_django.limits.keys import account_digest, account_key

from .people import PASSWORD
from .site import PeerClient, Site

pytestmark = pytest.mark.django_db(transaction=True)

BACKENDS = ["rustauth_django.login.ModelBackend"]
SETTINGS = {"ENABLED": True, "RULES": [{"path": "*", "disabled": True}]}


def sign_in(request: HttpRequest) -> HttpResponse:
    user = authenticate(request, **request.POST.dict())
    if user is not None:
        login(request, user)
    return HttpResponse(status=200 if user else 401)


urlpatterns = [path("sign-in/", sign_in)]


@pytest.fixture
def urlconf() -> str:
    return __name__


@pytest.fixture
def ada(site: Site) -> User:
    site.settings["AUTHENTICATION_BACKENDS"] = BACKENDS
    site.configure(**SETTINGS)
    return User.objects.create_user("ada", password=PASSWORD)


class Browser:
    """Keeps its cookies; ``at`` an address."""

    def __init__(self, site: Site, at: str = "192.0.2.1") -> None:
        self.site, self.at = site, at
        self.client: Any = PeerClient() if site.runner else Client()

    def sign_in(self, name: str = "ada", password: str = PASSWORD) -> Any:
        data = {"username": name, "password": password}
        if isinstance(self.client, AsyncClient):
            self.client.peer = (self.at, 1)
            return self.site.runner.run(self.client.post("/sign-in/", data))
        return self.client.post("/sign-in/", data, REMOTE_ADDR=self.at)

    def wrong(self, times: int, name: str = "ada") -> list[int]:
        return [self.sign_in(name, "wrong").status_code for _ in range(times)]


def test_strangers_lock_out_strangers_alone(site: Site, ada: User) -> None:
    """Whatever they do all day, the owner gets in, and forgives them nothing."""
    owner = Browser(site)
    assert owner.sign_in().status_code == 200
    strangers = Browser(site, "198.51.100.1")
    assert strangers.wrong(6) == [401] * 5 + [429]
    for _ in range(12):
        assert owner.sign_in().status_code == 200
    assert strangers.wrong(2) == [429, 429]
    assert Browser(site, "203.0.113.1").sign_in().status_code == 429


@pytest.mark.slow
@pytest.mark.parametrize(("age", "refused"), [(86_400, 0), (None, 1_440)])
def test_a_day_of_guesses(memory_site: Site, age: int | None, refused: int) -> None:
    """Each minute until refused: the owner signs in each minute, and without a cookie never."""
    memory_site.settings["AUTHENTICATION_BACKENDS"] = BACKENDS
    memory_site.configure(**SETTINGS, LOGIN={"DEVICE_COOKIE": age, "ADDRESS": None})
    User.objects.create_user("ada", password=PASSWORD)
    owner, strangers = Browser(memory_site), Browser(memory_site, "198.51.100.1")
    statuses = []
    with fresh_rate_limits() as limits:
        if age:
            assert owner.sign_in().status_code == 200
        for _ in range(1_440):
            while strangers.wrong(1) == [401]:
                continue
            statuses.append(owner.sign_in().status_code)
            limits.clock.advance(60)
    assert statuses.count(429) == refused


def test_a_browser_has_the_account_s_numbers(site: Site, ada: User) -> None:
    """Five wrong ones, and then it waits; strangers do not."""
    owner = Browser(site)
    owner.sign_in()
    assert owner.wrong(6) == [401] * 5 + [429]
    assert owner.sign_in().status_code == 429
    assert Browser(site, "198.51.100.1").sign_in().status_code == 200


def test_an_address_that_is_blocked_lets_its_owner_in(site: Site, ada: User) -> None:
    """In a cafe where somebody guesses."""
    owner, guest = Browser(site), Browser(site)
    owner.sign_in()
    for index in range(20):
        guest.wrong(1, f"name-{index}")
    assert guest.wrong(1, "grace") == [429]
    assert owner.sign_in().status_code == 200


def test_a_new_password_is_a_new_browser(site: Site, ada: User) -> None:
    """And frees the account."""
    owner, strangers = Browser(site), Browser(site, "198.51.100.1")
    owner.sign_in()
    assert strangers.wrong(6)[-1] == 429
    ada.set_password("another horse")
    options = get_guard().options
    (rule,), key = options.login.account, account_key(account_digest(ada, options.visitors))
    with transaction.atomic():
        ada.save()
        assert not rate_limit_store.peek(key, rule).permitted
    assert strangers.wrong(6) == [401] * 5 + [429]
    assert owner.sign_in(password="another horse").status_code == 429


def test_what_is_saved_without_a_new_password_frees_nothing(site: Site, ada: User) -> None:
    """Such as the time of the last sign-in."""
    strangers = Browser(site)
    strangers.wrong(5)
    ada.save()
    assert strangers.wrong(1) == [429]


def test_a_browser_knows_five_accounts(site: Site, ada: User) -> None:
    """The last ones."""
    browser = Browser(site)
    browser.sign_in()
    for index in range(MAX_ACCOUNTS):
        User.objects.create_user(f"user-{index}", password=PASSWORD)
        assert browser.sign_in(f"user-{index}").status_code == 200
    strangers = Browser(site, "198.51.100.1")
    for name in ("ada", "user-0"):
        assert strangers.wrong(5, name) == [401] * 5
        rate_limit_store.reset("198.51.100.1|login")
    assert browser.sign_in("user-0").status_code == 200
    assert browser.sign_in("ada").status_code == 429


@pytest.mark.parametrize("value", ["", "x", "a.b:c:d", "x" * 5_000, "\u00e9:1:2", '"', "::::"])
def test_a_cookie_that_is_not_ours_is_none(site: Site, ada: User, value: str) -> None:
    """Forged, cut or of somebody else's."""
    browser = Browser(site)
    browser.sign_in()
    good = browser.client.cookies[COOKIE].value
    for forged in (value, good[:-1], good + "x", good.replace(".", "..", 1)):
        browser.client.cookies[COOKIE] = forged
        Browser(site, "198.51.100.1").wrong(5)
        assert browser.sign_in().status_code == 429


def test_a_cookie_of_one_account_is_none_for_another(site: Site, ada: User) -> None:
    """An attacker signs in to an account of their own."""
    User.objects.create_user("mallory", password=PASSWORD)
    attacker = Browser(site)
    attacker.sign_in("mallory")
    assert attacker.wrong(6) == [401] * 5 + [429]


def test_the_cookie_is_as_the_session_s(site: Site, ada: User) -> None:
    """HttpOnly, and with the attributes that the site has chosen; it names nobody."""
    with override_settings(SESSION_COOKIE_SECURE=True, SESSION_COOKIE_SAMESITE="Strict"):
        User.objects.create_user("lovelace", password=PASSWORD)
        cookie = Browser(site).sign_in("lovelace").cookies[COOKIE]
    assert cookie["httponly"]
    assert cookie["secure"]
    assert (cookie["samesite"], cookie["max-age"]) == ("Strict", 180 * 86_400)
    assert "lovelace" not in cookie.value
    assert '"' not in cookie.OutputString()


def test_no_cookie_without_a_login(site: Site, ada: User) -> None:
    """Nor where the setting is None."""
    assert COOKIE not in Browser(site).sign_in(password="wrong").cookies
    site.configure(**SETTINGS, LOGIN={"DEVICE_COOKIE": None})
    owner = Browser(site)
    assert COOKIE not in owner.sign_in().cookies
    Browser(site, "198.51.100.1").wrong(5)
    assert owner.sign_in().status_code == 429


def test_unblock_frees_browsers_too(site: Site, ada: User) -> None:
    """Of the user, and of nobody else."""
    owner = Browser(site)
    owner.sign_in()
    assert owner.wrong(6)[-1] == 429
    said = io.StringIO()
    call_command("rustauth_unblock", "--user", f"{ada.pk}", stdout=said)
    assert "Freed 1 bucket of user" in said.getvalue()
    assert owner.sign_in().status_code == 200
