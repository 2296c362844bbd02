"""What a block of logins looks like: the page, the signals, the audit log; and PAIR."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth import authenticate, login
from django.contrib.auth.models import User
from django.core import checks
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import include, path
from django.utils import translation

from rustauth_django import sessions
from rustauth_django.connections import get_guard
from rustauth_django.limits.keys import account_digest
from rustauth_django.signals import login_blocked, login_locked

from .people import PASSWORD
from .site import Site

pytestmark = pytest.mark.django_db(transaction=True)

BACKENDS = ["rustauth_django.login.ModelBackend"]
SETTINGS: dict[str, Any] = {"ENABLED": True, "RULES": [{"path": "*", "disabled": True}]}
LANGUAGES = [
    "django.middleware.locale.LocaleMiddleware",
    "rustauth_django.middleware.RateLimitMiddleware",
]


def sign_in(request: HttpRequest) -> HttpResponse:
    sent = request.POST.dict()
    user = authenticate(request, username=sent["username"], password=sent["password"])
    if user is not None and "stay-out" not in sent:
        login(request, user)
    return HttpResponse(status=200 if user else 401)


urlpatterns = [path("sign-in/", sign_in), path("", include("django.contrib.auth.urls"))]
without_reset = [path("sign-in/", sign_in)]


@pytest.fixture
def urlconf() -> str:
    return __name__


@pytest.fixture
def users(site: Site) -> dict[str, User]:
    site.settings["AUTHENTICATION_BACKENDS"] = BACKENDS
    site.configure(**SETTINGS)
    return {name: User.objects.create_user(name, password=PASSWORD) for name in ("ada", "grace")}


@pytest.fixture
def told() -> Iterator[list[tuple[str, Any]]]:
    """The name and the arguments of each signal about a block."""
    found: list[tuple[str, Any]] = []

    def locked(**kwargs: Any) -> None:
        found.append(("locked", kwargs))

    def blocked(**kwargs: Any) -> None:
        found.append(("blocked", kwargs))

    login_locked.connect(locked)
    login_blocked.connect(blocked)
    yield found
    login_locked.disconnect(locked)
    login_blocked.disconnect(blocked)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    """The audit log since it was last looked at."""
    caplog.set_level(logging.INFO, "rustauth_django.audit")

    def read() -> list[dict[str, Any]]:
        found = [one for one in caplog.records if one.name == "rustauth_django.audit"]
        assert all(json.loads(one.getMessage()) == vars(one)["audit"] for one in found)
        read_lines = [json.loads(one.getMessage()) for one in found]
        caplog.clear()
        return read_lines

    return read


def wrong(name: str = "ada") -> dict[str, str]:
    return {"username": name, "password": "wrong"}


def right(name: str = "ada") -> dict[str, str]:
    return {"username": name, "password": PASSWORD}


def test_a_block_is_told_once(site: Site, users: dict[str, User], told: Any) -> None:
    """As it begins, with how long it lasts; and each attempt that it refuses."""
    site.statuses("POST", "/sign-in/", 4, wrong())
    assert told == []
    site.post("/sign-in/", wrong())
    ((name, first),) = told
    assert (name, first["what"], first["user"], first["sender"]) == (
        *("locked", "account", users["ada"]),
        User,
    )
    assert 0 < first["decision"].retry_after <= 60
    assert first["request"].path == "/sign-in/"
    told.clear()
    site.statuses("POST", "/sign-in/", 2, right())
    assert [(name, one["what"], one["user"]) for name, one in told] == [
        ("blocked", "account", users["ada"])
    ] * 2


def test_a_name_of_nobody_is_blocked_as_well(site: Site, users: Any, told: Any) -> None:
    """And there is no user to tell of."""
    site.statuses("POST", "/sign-in/", 6, wrong("nobody"))
    assert [(name, one["what"], one["user"]) for name, one in told] == [
        ("locked", "account", None),
        ("blocked", "account", None),
    ]


def test_an_address_is_blocked_without_a_user(site: Site, users: Any, told: Any) -> None:
    """Whoever's password was tried last."""
    site.configure(**SETTINGS, LOGIN={"ADDRESS": "3/m"})
    for name in ("ada", "grace", "ada", "grace"):
        site.post("/sign-in/", wrong(name))
    assert [(name, one["what"], one["user"]) for name, one in told] == [
        ("locked", "address", None),
        ("blocked", "address", None),
    ]


def test_what_is_given_back_began_no_block(site: Site, users: Any, told: Any) -> None:
    """The fifth password is right."""
    site.statuses("POST", "/sign-in/", 4, wrong())
    assert site.post("/sign-in/", {**right(), "stay-out": "1"}).status_code == 200
    site.statuses("POST", "/sign-in/", 4, wrong())
    assert told == []


def test_without_a_request_a_block_is_told_too(
    site: Site, users: dict[str, User], told: Any, lines: Any
) -> None:
    """There an attempt counts when it has failed."""
    with audit(site):
        for _ in range(6):
            assert authenticate(username="ada", password="wrong") is None
    assert [(name, one["what"], one["user"]) for name, one in told] == [
        ("locked", "account", users["ada"]),
        ("blocked", "account", users["ada"]),
    ]
    assert [line["event"] for line in lines()] == ["login_failed"] * 5 + ["login_locked"]


def audit(site: Site, **options: Any) -> Any:
    rate_limit = {**SETTINGS, **options.pop("RATE_LIMIT", {})}
    rustauth = {**site.base, "RATE_LIMIT": rate_limit, "AUDIT": {"TO": "log", **options}}
    return override_settings(RUSTAUTH=rustauth)


def test_the_audit_log(site: Site, users: dict[str, User], lines: Any) -> None:
    """A line for each failure, block, unblocking and revocation; accounts are HMACs."""
    with audit(site):
        account = account_digest(users["ada"], get_guard().options.visitors)
        site.statuses("POST", "/sign-in/", 7, wrong())
        failed = {"event": "login_failed", "account": account}
        block = {"what": "account", "account": account}
        assert lines() == [failed] * 5 + [{"event": "login_locked", **block, "seconds": 60}]
        call_command("rustauth_unblock", "--user", str(users["ada"].pk), stdout=io.StringIO())
        assert lines() == [{"event": "login_unlocked", **block}]
        assert site.post("/sign-in/", right()).status_code == 200
        assert lines() == []
        site.client.cookies.clear()
        site.post("/sign-in/", wrong())
        assert lines() == [failed]
        users["ada"].set_password("another horse")
        users["ada"].save()
        assert lines() == [{"event": "login_unlocked", **block}]
        users["ada"].set_password(PASSWORD)
        users["ada"].save()
        assert lines() == []


def test_the_audit_log_of_sessions(site: Site, users: dict[str, User], lines: Any) -> None:
    """By a function, a change of password, the command: for one and for everybody."""
    engine = {"SESSION_ENGINE": "rustauth_django.sessions"}
    ada = users["ada"]
    with audit(site), override_settings(**engine):
        account = account_digest(ada, get_guard().options.visitors)
        one = {"event": "sessions_revoked", "account": account, "count": 1}
        revoked: dict[str, Callable[[], object]] = {
            "function": lambda: sessions.revoke_sessions(ada),
            "command": lambda: call_command(
                "rustauth_sessions", "revoke", "--user", str(ada.pk), stdout=io.StringIO()
            ),
            "deactivated": ada.save,
        }
        for way, revoke in revoked.items():
            assert site.post("/sign-in/", right()).status_code == 200
            ada.is_active = way != "deactivated"
            revoke()
            assert lines() == [one]
            revoke()
            assert lines() == []
        assert site.post("/sign-in/", right("grace")).status_code == 200
        call_command("rustauth_sessions", "revoke", "--all", stdout=io.StringIO())
        assert lines() == [{"event": "sessions_revoked", "count": 1}]


def test_addresses_are_in_the_audit_log_on_demand(site: Site, users: Any, lines: Any) -> None:
    """As they are in keys: an IPv6 subnet, a whole IPv4 address."""
    limits = {"RATE_LIMIT": {"LOGIN": {"ADDRESS": "1/m", "ACCOUNT": None}}}
    with audit(site, **limits):
        site.post("/sign-in/", wrong(), peer="192.0.2.1")
        assert [sorted(line) for line in lines()] == [
            ["account", "event"],
            ["event", "seconds", "what"],
        ]
    with audit(site, ADDRESSES=True, **limits):
        site.post("/sign-in/", wrong(), peer="2001:db8::1")
        subnet = "2001:0db8:0000:0000:0000:0000:0000:0000"
        assert [line["address"] for line in lines()] == [subnet, subnet]


def test_no_name_is_in_the_audit_log(site: Site, users: Any, lines: Any) -> None:
    """Nor is it written without the setting."""
    with audit(site, ADDRESSES=True):
        site.statuses("POST", "/sign-in/", 6, wrong("zoë@example.org"))
        assert "zo" not in json.dumps(lines()).replace("login_locked", "")
    site.post("/sign-in/", wrong("grace"))
    assert lines() == []


def test_an_audit_log_that_is_dropped_is_found() -> None:
    """By manage.py check: a logger without a handler, or above INFO."""
    logger = logging.getLogger("rustauth_django.audit")

    def found() -> list[str | None]:
        return [one.id for one in checks.run_checks() if one.id == "rustauth_django.W011"]

    handler = logging.NullHandler()
    assert found() == []
    with override_settings(RUSTAUTH={"AUDIT": {}}):
        logger.addHandler(handler)
        try:
            assert found() == ["rustauth_django.W011"]
            logger.setLevel(logging.INFO)
            assert found() == []
            logger.propagate = False
            logger.removeHandler(handler)
            assert found() == ["rustauth_django.W011"]
        finally:
            logger.propagate = True
            logger.setLevel(logging.NOTSET)
            logger.removeHandler(handler)


def test_wrong_audit_settings_are_found() -> None:
    """Each with its path."""
    for wrong, where in (
        ("log", 'RUSTAUTH["AUDIT"] must be a dictionary'),
        ({"TO": "file"}, 'RUSTAUTH["AUDIT"]["TO"] must be "log"'),
        ({"ADDRESSES": 1}, 'RUSTAUTH["AUDIT"]["ADDRESSES"] must be True or False'),
        ({"ADRESSES": True}, 'RUSTAUTH["AUDIT"]["ADRESSES"] is not a setting'),
    ):
        with override_settings(RUSTAUTH={"AUDIT": wrong}):
            messages = [one.msg for one in checks.run_checks()]
            assert any(message.startswith(where) for message in messages), messages


def page_of(site: Site, name: str = "ada", **headers: str) -> str:
    response = site.post("/sign-in/", right(name), Accept="text/html", **headers)
    assert response.status_code == 429
    assert 0 < int(response.headers["Retry-After"]) <= 60
    return str(response.content.decode())


def test_the_page_says_what_happened(site: Site, users: Any) -> None:
    """How long it lasts, and that a new password ends it."""
    site.statuses("POST", "/sign-in/", 5, wrong())
    page = page_of(site)
    assert "There were too many failed attempts to sign in to this account." in page
    assert "then try again." in page
    assert '<a href="/password_reset/">Reset the password</a>' in page
    with override_settings(ROOT_URLCONF=tuple(without_reset)):
        assert "Reset the password" not in page_of(site)


def test_the_page_for_an_address_has_no_reset(site: Site, users: Any) -> None:
    """A new password would not end that block."""
    site.configure(**SETTINGS, LOGIN={"ADDRESS": "1/m"})
    site.post("/sign-in/", wrong())
    page = page_of(site, "grace")
    assert "from your network" in page
    assert "Reset" not in page


def test_the_page_for_a_known_browser(site: Site, users: Any) -> None:
    """The account is not blocked elsewhere."""
    site.post("/sign-in/", right())
    site.statuses("POST", "/sign-in/", 5, wrong())
    assert "to this account with this browser." in page_of(site)


def test_programs_get_json(site: Site, users: Any) -> None:
    """With a code of its own."""
    site.statuses("POST", "/sign-in/", 5, wrong())
    response = site.post("/sign-in/", right())
    assert response.json() == {
        "code": "TOO_MANY_FAILED_LOGINS",
        "message": "Too many failed attempts to sign in. Please try again later.",
    }


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("de", "Anmeldung gesperrt"),
        ("es", "Inicio de sesión bloqueado"),
        ("fr", "Connexion bloquée"),
    ],
)
def test_the_page_is_translated(memory_site: Site, language: str, words: str) -> None:
    """In the visitor's language, with the wait in minutes where it is long."""
    site = memory_site
    site.settings |= {"AUTHENTICATION_BACKENDS": BACKENDS, "MIDDLEWARE": LANGUAGES}
    login_limits = {"ACCOUNT": {"window": 900, "max": 1, "escalate": [600]}}
    site.configure(**SETTINGS, LOGIN=login_limits)
    site.client = type(site.client)()
    with translation.override(None):
        site.post("/sign-in/", wrong("nobody"))
        headers = {"Accept": "text/html", "Accept_Language": language}
        page = site.post("/sign-in/", wrong("nobody"), **headers).content.decode()
    assert f"<h1>{words}</h1>" in page
    assert " 10 minut" in page.lower()


def test_a_pair_is_blocked_before_the_account(site: Site, users: dict[str, User]) -> None:
    """One address alone cannot block an account; another address goes on."""
    site.configure(**SETTINGS, LOGIN={"PAIR": "3/15m"})
    assert site.statuses("POST", "/sign-in/", 4, wrong()) == [401] * 3 + [429]
    assert site.post("/sign-in/", right()).status_code == 429
    assert site.post("/sign-in/", right("grace")).status_code == 200
    assert site.post("/sign-in/", right(), peer="192.0.2.1").status_code == 200


def test_a_success_forgives_the_pair(site: Site, users: Any) -> None:
    """Two wrong ones, a right one, and so on."""
    site.configure(**SETTINGS, LOGIN={"PAIR": "3/15m", "DEVICE_COOKIE": None})
    for _ in range(3):
        assert site.statuses("POST", "/sign-in/", 2, wrong()) == [401] * 2
        assert site.post("/sign-in/", right()).status_code == 200
        for _ in range(2):
            assert authenticate(username="ada", password="wrong") is None


def test_a_pair_is_freed(site: Site, users: dict[str, User], lines: Any) -> None:
    """By a new password, and by the command for the user and for the address."""
    ada = users["ada"]
    with audit(site, RATE_LIMIT={"LOGIN": {"PAIR": "3/15m"}}):
        assert site.statuses("POST", "/sign-in/", 4, wrong())[-1] == 429
        ada.set_password(PASSWORD)
        ada.save()
        assert site.statuses("POST", "/sign-in/", 4, wrong()) == [401] * 3 + [429]
        for option, value in (("--user", str(ada.pk)), ("--ip", "127.0.0.1")):
            lines()
            call_command("rustauth_unblock", option, value, stdout=io.StringIO())
            freed = {line["what"] for line in lines() if line["event"] == "login_unlocked"}
            assert "pair" in freed
            assert site.statuses("POST", "/sign-in/", 3, wrong())[0] == 401


def test_wrong_pairs_are_found() -> None:
    """A bucket lists its attempts, so it needs a bound."""
    with override_settings(RUSTAUTH={"RATE_LIMIT": {"LOGIN": {"PAIR": "2000/h"}}}):
        messages = [one.msg for one in checks.run_checks()]
    assert 'RUSTAUTH["RATE_LIMIT"]["LOGIN"]["PAIR"] must be at most 1000 attempts.' in messages
