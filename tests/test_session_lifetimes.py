"""How long sessions last, how many a user has, and where they were last seen."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from django.utils import timezone

from rustauth_django import secondary_storage
from rustauth_django.connections import get_stores
from rustauth_django.engine.records import read_time
from rustauth_django.sessions import SessionInfo, SessionStore, list_sessions, revoke_sessions
from rustauth_django.sessions.cookies import sign
from rustauth_django.sessions.store import user_sessions
from rustauth_django.signals import session_moved, session_started, sessions_revoked

from .people import person
from .site import Site
from .test_sessions import (
    FIREFOX,
    Browser,
    Store,
    asign_in,
    awho,
    engine,
    hash_of,
    index,
    sign_in,
    store,
    stored,
    who,
)

__all__ = ["engine", "store"]


async def agreet(request: HttpRequest) -> HttpResponse:
    await request.session.aget("x")
    return HttpResponse()


def greet(request: HttpRequest) -> HttpResponse:
    request.session.get("x")
    return HttpResponse()


urlpatterns = [
    path("sign_in", sign_in),
    path("who", who),
    path("greet", greet),
    path("a/sign_in", asign_in),
    path("a/who", awho),
    path("a/greet", agreet),
]


@pytest.fixture
def urlconf() -> str:
    return __name__


class Time:
    """The time of the app's sessions and of memory; a server has its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = datetime.now(UTC)
        self._patch = monkeypatch

    def go_on(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        user_sessions().clock = lambda: self.now
        self._patch.setattr(timezone, "now", lambda: self.now)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


@pytest.fixture
def configure(engine: Site) -> Callable[..., None]:
    """Set RUSTAUTH["SESSIONS"], and keep the data that is there."""

    def configure(**options: Any) -> None:
        engine.base["SESSIONS"] = options
        engine.configure(ENABLED=False)

    return configure


def ends_in(token: str) -> float:
    """Seconds until the record says that the session ends."""
    return (read_time(stored(token)["expires_at"]) - user_sessions().clock()).total_seconds()


def visited(store: Store, session: Any) -> Any:
    """The session as the next request has it, saved if that is due."""
    again = store(session.target.session_key)
    again.get("x")
    if again.target.modified:
        again.save()
    return again


def test_an_idle_session_ends(configure: Any, store: Store, time: Time) -> None:
    """So long after it was last seen; it is touched ten times as often, and no more often."""
    configure(IDLE_AGE=1000, UPDATE_AGE=None)
    time.go_on(0)
    session = store(_auth_user_id="1")
    session.save()
    token = session.target.token
    assert 990 < ends_in(token) <= 1000
    assert 990 < (secondary_storage.ttl(f"session:{token}") or 0) <= 1000
    before = stored(token)
    time.go_on(99)
    assert visited(store, session).get("_auth_user_id") == "1"
    assert stored(token) == before
    for _ in range(20):
        time.go_on(100)
        assert visited(store, session).get("_auth_user_id") == "1"
        assert 999 < ends_in(token) <= 1000
    time.go_on(1000)
    assert visited(store, session).get("_auth_user_id") is None
    assert list_sessions(person(1)) == []


def test_a_session_ends_so_long_after_the_sign_in(configure: Any, store: Store, time: Time) -> None:
    """Whatever happens: visits, changes, another key, a longer ``set_expiry``, a refresh by
    RustAuth.
    """
    configure(MAX_AGE=1000, UPDATE_AGE=10)
    time.go_on(0)
    session = store(_auth_user_id="1")
    session.save()
    session.set_expiry(10_000)
    session.save()
    for _ in range(9):
        time.go_on(100)
        visited(store, session)
    session = store(session.target.session_key)
    store.put(session, "cart", [1])
    session.save()
    session.cycle_key()
    token = session.target.token
    assert 99 < ends_in(token) <= 100
    (info,) = list_sessions(person(1))
    lasts = info.expires_at - info.created_at
    assert timedelta(seconds=999.99) < lasts <= timedelta(seconds=1000)
    later = {**stored(token), "expires_at": "2099-01-01T00:00:00Z"}
    secondary_storage.set(f"session:{token}", json.dumps(later), 9999)
    assert list_sessions(person(1))[0].expires_at == info.expires_at
    assert visited(store, session).get("cart") == [1]
    time.go_on(100)
    assert visited(store, session).get("cart") is None


def test_a_new_sign_in_begins_anew(engine: Site, configure: Any, time: Time) -> None:
    """In the same browser, with the same session."""
    configure(MAX_AGE=1000)
    browser = Browser(engine)
    browser.sign_in()
    time.go_on(900)
    token = browser.sign_in()
    assert 999 < ends_in(token) <= 1000


@pytest.mark.parametrize("options", [{"IDLE_AGE": 100}, {"MAX_AGE": 100}])
def test_a_visitor_who_is_not_signed_in_keeps_the_session(
    configure: Any, store: Store, time: Time, options: Any
) -> None:
    """A cart is no login; and the ages begin with the sign-in."""
    configure(**options)
    session = store(cart=[1])
    session.save()
    time.go_on(200)
    assert visited(store, session).get("cart") == [1]


@pytest.mark.parametrize(
    ("expiry", "most"),
    [(0, 1000), (None, 1000), (500, 500), (5000, 1000), (timedelta(hours=9), 1000)],
)
def test_the_shortest_life_wins(configure: Any, store: Store, expiry: Any, most: int) -> None:
    """Sessions of the browser's length, "remember me" and ``set_expiry`` within both ages."""
    configure(IDLE_AGE=1000, MAX_AGE=2000)
    session = store(_auth_user_id="1")
    session.set_expiry(expiry)
    session.save()
    assert most - 10 < ends_in(session.target.token) <= most


@pytest.mark.parametrize("options", [{"IDLE_AGE": 100}, {"MAX_AGE": 100}])
def test_a_shorter_age_holds_for_sessions_that_are_there(
    engine: Site, store: Store, time: Time, options: Any
) -> None:
    """Saved while the setting was another one."""
    session = store(_auth_user_id="1")
    session.save()
    time.go_on(200)
    assert store(session.target.session_key).get("_auth_user_id") == "1"
    data = {key: secondary_storage.get(key) for key in secondary_storage.list_keys()}
    fields = hash_of(session.target.token)
    engine.base["SESSIONS"] = options
    engine.configure(ENABLED=False)
    if get_stores().backend.location == "memory://":
        return  # which is new with new settings
    assert data
    assert fields
    time.go_on(0)
    assert store(session.target.session_key).load() == {}


def test_a_user_has_so_many_sessions(configure: Any, store: Store) -> None:
    """With the next one the oldest ends; those that are over do not count."""
    configure(MAX_PER_USER=3)
    made = []
    for number in range(5):
        session = store(_auth_user_id="1", number=number)
        session.save()
        made.append(session)
    assert index() == [one.target.token for one in made[2:]]
    assert [store(one.target.session_key).get("number") for one in made] == [None, None, 2, 3, 4]
    other = store(_auth_user_id="2")
    other.save()
    secondary_storage.delete(f"session:{made[4].target.token}")
    session = store(_auth_user_id="1", number=5)
    session.save()
    found = [store(one.target.session_key).get("number") for one in [*made[2:4], session]]
    assert found == [2, 3, 5]
    assert len(list_sessions(person(2))) == 1


class Heard:
    """What the signals have said."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.moved: list[dict[str, Any]] = []
        self.revoked: list[dict[str, Any]] = []

    def start(self, **named: Any) -> None:
        self.started.append(named)

    async def move(self, **named: Any) -> None:
        self.moved.append(named)

    def revoke(self, **named: Any) -> None:
        self.revoked.append(named)


@pytest.fixture
def heard() -> Iterator[Heard]:
    heard = Heard()
    connected = [
        (session_started, heard.start),
        (session_moved, heard.move),
        (sessions_revoked, heard.revoke),
    ]
    for signal, receiver in connected:
        signal.connect(receiver)
    yield heard
    for signal, receiver in connected:
        signal.disconnect(receiver)


def test_a_sign_in_is_told_of(engine: Site, heard: Heard) -> None:
    """Once, with the session as it is stored; a browser that has signed in before is known."""
    browser = Browser(engine)
    token = browser.sign_in()
    browser.get("greet")
    (started,) = heard.started
    info = started["session"]
    assert isinstance(info, SessionInfo)
    assert (info.id, info.is_current, info.ip_address) == (stored(token)["id"], True, "127.0.0.1")
    assert (started["user"].pk, started["is_new_device"]) == (1, True)
    assert started["sender"] is type(started["user"])


@pytest.mark.django_db
def test_a_device_that_is_known_is_not_new(engine: Site, heard: Heard) -> None:
    """By its device cookie, which needs the limits on logins."""
    engine.settings["AUTHENTICATION_BACKENDS"] = [
        "rustauth_django.login.LoginProtection",
        "tests.people.PeopleBackend",
    ]
    engine.configure(ENABLED=True, RULES=[{"path": "*", "disabled": True}])
    browser = Browser(engine)
    for name in ("ada", "ada", "grace", "grace"):
        assert browser.get(f"sign_in?name={name}").status_code == 200
    assert [one["is_new_device"] for one in heard.started] == [True, False, True, False]


def test_where_a_session_was_last_seen_is_told(engine: Site, heard: Heard) -> None:
    """By the middleware: address and agent; a change of either is a signal, and kept at once."""
    browser = Browser(engine)
    token = browser.sign_in()
    browser.get("greet")
    assert heard.moved == []
    before = stored(token)
    browser.agent = "curl/8"
    browser.get("greet")
    browser.get("greet")
    (moved,) = heard.moved
    assert (moved["user"].pk, moved["before"]) == (1, ("127.0.0.1", FIREFOX))
    (info,) = list_sessions(person(1))
    assert moved["session"].last_user_agent == info.last_user_agent == "curl/8"
    assert (info.user_agent, info.ip_address) == (FIREFOX, "127.0.0.1")
    assert info.last_ip_address == "127.0.0.1"
    assert stored(token)["created_at"] == before["created_at"]
    assert hash_of(token) == {**(hash_of(token) or {}), "seen_agent": b"curl/8"}
    browser.site.client = browser.client
    assert browser.site.get(f"{browser.prefix}greet", peer="192.0.2.7", user_agent="curl/8")
    assert [one["session"].last_ip_address for one in heard.moved] == ["127.0.0.1", "192.0.2.7"]
    assert "192.0.2.7" not in repr(heard.moved)


@pytest.mark.parametrize("agent", ["", "ü" * 600, "a\tb"])
def test_odd_agents_do_not_move(engine: Site, heard: Heard, agent: str) -> None:
    """Whatever a client calls itself, the same is no change."""
    browser = Browser(engine, agent)
    browser.sign_in()
    for _ in range(2):
        browser.get("greet")
    assert heard.moved == []


def test_without_the_middleware_times_alone_are_known(engine: Site, heard: Heard) -> None:
    """And without addresses, agents alone."""
    engine.settings["MIDDLEWARE"] = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ]
    engine.configure(ENABLED=False)
    browser = Browser(engine)
    browser.sign_in()
    browser.agent = "curl/8"
    browser.get("greet")
    assert heard.moved == []
    (info,) = list_sessions(person(1))
    assert info.last_user_agent == FIREFOX


def test_a_move_is_no_reason_to_fail(engine: Site, heard: Heard) -> None:
    """The page reads, and its session was ended meanwhile."""
    browser = Browser(engine)
    token = browser.sign_in()
    revoke_sessions(person(1))
    browser.agent = "curl/8"
    assert browser.get("greet").status_code == 200
    assert heard.moved == []
    assert SessionStore(sign(token)).load() == {}


def test_what_ended_is_named(engine: Site, heard: Heard, configure: Any) -> None:
    """By id, with a reason, so that a socket can be closed."""
    configure(MAX_PER_USER=1)
    first, second = Browser(engine), Browser(engine)
    old = stored(first.sign_in())["id"]
    new = stored(second.sign_in())["id"]
    revoke_sessions(person(1))
    told = [(one["user"].pk, one["count"], one["ids"], one["reason"]) for one in heard.revoked]
    assert told == [(1, 1, [old], "too_many"), (1, 1, [new], "revoked")]


def test_visitors_and_other_engines_are_left_alone(engine: Site, heard: Heard) -> None:
    """The middleware looks at the sessions of this engine, and at those that were read."""
    browser = Browser(engine)
    assert browser.get("greet").status_code == 200
    with override_settings(SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies"):
        assert Browser(engine).get("greet").status_code == 200
    assert (heard.started, heard.moved, heard.revoked) == ([], [], [])
