"""django-allauth's real views, with one limit on logins: this app's."""

import io
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core import checks, mail
from django.core.cache import cache
from django.core.management import call_command
from django.test import override_settings

from rustauth_django.contrib.auth import address_of

from .people import PASSWORD
from .site import Site

pytest.importorskip("allauth")

pytestmark = pytest.mark.django_db(transaction=True)

OTHER = "another correct horse"
APPS = [*settings.INSTALLED_APPS, "allauth", "allauth.account", "allauth.mfa"]
OURS = "rustauth_django.middleware.RateLimitMiddleware"
SITE: dict[str, Any] = {
    "MIDDLEWARE": [
        *[one for one in settings.MIDDLEWARE if one != OURS],
        "allauth.account.middleware.AccountMiddleware",
        OURS,
    ],
    "AUTHENTICATION_BACKENDS": [
        "rustauth_django.login.LoginProtection",
        "allauth.account.auth_backends.AuthenticationBackend",
    ],
    "ROOT_URLCONF": "allauth.urls",
    "LOGIN_REDIRECT_URL": "/email/",
    "ACCOUNT_ADAPTER": "rustauth_django.contrib.allauth.AccountAdapter",
    "ACCOUNT_RATE_LIMITS": {"login": None, "reauthenticate": None},
    "ACCOUNT_LOGIN_METHODS": {"username", "email"},
    "ACCOUNT_LOGIN_BY_CODE_ENABLED": True,
    "ACCOUNT_EMAIL_VERIFICATION": "none",
    "MFA_SUPPORTED_TYPES": ["totp", "recovery_codes"],
}
# The strict limits on views, which are others, would come before.
LIMITS: dict[str, Any] = {
    "ENABLED": True,
    "RULES": [{"path": "*", "disabled": True}],
    "LOGIN": {"NAMES": ["email"]},
}


@pytest.fixture(scope="module")
def installed(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    # The apps look at the other settings as they are loaded.
    with override_settings(**SITE), override_settings(INSTALLED_APPS=APPS):
        with django_db_blocker.unblock():
            call_command("migrate", verbosity=0)
        yield


@pytest.fixture
def allauth(installed: None, memory_site: Site) -> Site:
    site = memory_site
    site.settings |= SITE
    site.configure(**LIMITS)
    # Where django-allauth counts.
    cache.clear()
    return site


@pytest.fixture
def ada(allauth: Site) -> User:
    return User.objects.create_user("ada", "ada@example.com", PASSWORD)


def sign_in(site: Site, name: str = "ada", password: str = PASSWORD) -> Any:
    return site.post("/login/", {"login": name, "password": password})


def is_signed_in(site: Site) -> bool:
    return "_auth_user_id" in site.client.session


def test_the_sixth_wrong_password_is_a_429(allauth: Site, ada: User) -> None:
    """By name and by address, with Retry-After; the operator frees it."""
    names = ["ada", "ada@example.com"] * 3
    assert [sign_in(allauth, name, "wrong").status_code for name in names] == [200] * 5 + [429]
    for name in names[:2]:
        refused = sign_in(allauth, name)
        assert 0 < int(refused.headers["Retry-After"]) <= 60
        assert refused.json()["code"] == "TOO_MANY_FAILED_LOGINS"
    call_command("rustauth_unblock", "--user", str(ada.pk), stdout=io.StringIO())
    assert sign_in(allauth).status_code == 302
    assert is_signed_in(allauth)


def test_many_right_passwords_pass(allauth: Site, ada: User) -> None:
    """Thirty-five within a minute, from one office."""
    for _ in range(35):
        assert sign_in(allauth).status_code == 302
        assert allauth.post("/logout/").status_code == 302


def test_its_own_limit_holds_without_the_protection(allauth: Site, ada: User) -> None:
    """The adapter leaves nobody without one."""
    allauth.settings["AUTHENTICATION_BACKENDS"] = SITE["AUTHENTICATION_BACKENDS"][1:]
    allauth.configure(**LIMITS)
    pages = [sign_in(allauth, "ada", "wrong").content.decode() for _ in range(6)]
    assert ["Too many failed login attempts" in page for page in pages] == [False] * 5 + [True]


def test_signing_up_signs_in(allauth: Site) -> None:
    """By a backend that knows users."""
    sent = {"username": "eve", "email": "eve@example.com", "password1": OTHER, "password2": OTHER}
    assert allauth.post("/signup/", sent).status_code == 302
    assert is_signed_in(allauth)


def test_a_code_signs_in(allauth: Site, ada: User) -> None:
    """Without a password: nothing is counted, and a blocked account's owner gets in."""
    for _ in range(5):
        sign_in(allauth, "ada", "wrong")
    assert allauth.post("/login/code/", {"email": address_of(ada)}).status_code == 302
    found = re.search(r"^([0-9A-Z]{3,5}-?[0-9A-Z]{3,5})$", str(mail.outbox[-1].body), re.MULTILINE)
    assert found
    assert allauth.post("/login/code/confirm/", {"code": found[1]}).status_code == 302
    assert is_signed_in(allauth)


def test_a_second_factor_comes_after_a_right_password(allauth: Site, ada: User) -> None:
    """Twelve times: a password that was right is given back, though nobody is signed in yet."""
    from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
    from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret

    TOTP.activate(ada, generate_totp_secret())
    codes = RecoveryCodes.activate(ada).get_unused_codes()
    for _ in range(12):
        response = sign_in(allauth)
        assert (response.status_code, response.headers["Location"]) == (302, "/2fa/authenticate/")
        assert not is_signed_in(allauth)
    assert allauth.post("/2fa/authenticate/", {"code": codes[0]}).status_code == 302
    assert is_signed_in(allauth)


def test_wrong_codes_of_a_second_factor_are_limited(allauth: Site, ada: User) -> None:
    """By django-allauth, as before: the adapter takes over passwords alone."""
    from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret

    TOTP.activate(ada, generate_totp_secret())
    sign_in(allauth)
    pages = [
        allauth.post("/2fa/authenticate/", {"code": "000000"}).content.decode() for _ in range(6)
    ]
    assert ["Too many failed login attempts" in page for page in pages] == [False] * 5 + [True]


def test_a_password_again_is_counted(allauth: Site, ada: User) -> None:
    """The page that asks for it once more, before something important."""
    sign_in(allauth)
    for _ in range(12):
        assert allauth.post("/reauthenticate/", {"password": PASSWORD}).status_code == 302
    wrong = [allauth.post("/reauthenticate/", {"password": "wrong"}).status_code for _ in range(6)]
    assert wrong == [200] * 5 + [429]


def test_a_reset_frees_the_account(allauth: Site, ada: User) -> None:
    """The link in the mail, a new password, and in."""
    assert [sign_in(allauth, "ada", "wrong").status_code for _ in range(6)][-1] == 429
    assert allauth.post("/password/reset/", {"email": address_of(ada)}).status_code == 302
    found = re.search(r"http://[^/]+(/password/reset/key/\S+)", str(mail.outbox[-1].body))
    assert found
    form = allauth.get(found[1]).headers["Location"]
    assert allauth.post(form, {"password1": OTHER, "password2": OTHER}).status_code == 302
    assert sign_in(allauth, password=OTHER).status_code == 302


@pytest.mark.parametrize(
    ("changed", "hints"),
    [
        ({}, []),
        ({"AUTHENTICATION_BACKENDS": SITE["AUTHENTICATION_BACKENDS"][1:]}, []),
        ({"ACCOUNT_RATE_LIMITS": False, "ACCOUNT_ADAPTER": None}, []),
        ({"RUSTAUTH": {}}, ["NAMES"]),
        ({"RUSTAUTH": {}, "ACCOUNT_LOGIN_METHODS": {"username"}}, []),
        ({"ACCOUNT_ADAPTER": None}, ["ACCOUNT_ADAPTER"]),
        ({"ACCOUNT_RATE_LIMITS": {}}, ["ACCOUNT_RATE_LIMITS"]),
        (
            {"ACCOUNT_RATE_LIMITS": {}, "ACCOUNT_ADAPTER": None},
            ["ACCOUNT_ADAPTER", "ACCOUNT_RATE_LIMITS"],
        ),
    ],
)
def test_two_limits_are_found(installed: None, changed: dict[str, Any], hints: list[str]) -> None:
    """By manage.py check, which says what to set."""
    named = changed.get("ACCOUNT_ADAPTER", "") is None
    if named:
        changed = {**changed, "ACCOUNT_ADAPTER": "allauth.account.adapter.DefaultAccountAdapter"}
    with override_settings(**{**SITE, "RUSTAUTH": {"RATE_LIMIT": LIMITS}, **changed}):
        found = [one for one in checks.run_checks() if one.id == "rustauth_django.W013"]
    assert [re.findall(r"ACCOUNT_\w+|NAMES", str(one.hint)) for one in found] == (
        [hints] if hints else []
    )
