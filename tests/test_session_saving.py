"""What saving a session writes, and what it leaves alone."""

import json
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis
from django.apps import apps
from django.conf import settings
from django.contrib.sessions.backends.base import UpdateError
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from django.utils.timezone import make_aware

from rustauth_django import BackendError, secondary_storage
from rustauth_django.conf import get_settings
from rustauth_django.engine.records import read_time, write_time
from rustauth_django.sessions import SessionStore, list_sessions, revoke_sessions
from rustauth_django.sessions.cookies import sign, unsign
from rustauth_django.sessions.index import TOKEN_LENGTH
from rustauth_django.sessions.operations import WriteSession
from rustauth_django.sessions.rows import key_of
from rustauth_django.sessions.store import user_sessions
from rustauth_django.sessions.stored import StoredSessions

from .people import person
from .servers import EACH_SERVER, Server
from .site import Site
from .test_sessions import (
    Browser,
    Store,
    awho,
    data_of,
    engine,
    hash_of,
    index,
    sign_in,
    store,
    stored,
    who,
)

__all__ = ["engine", "store"]

DAY = timedelta(days=1)


class PickleSerializer:
    """As Django's documentation has it."""

    def dumps(self, obj: Any) -> bytes:
        return pickle.dumps(obj)

    def loads(self, data: bytes) -> Any:
        return pickle.loads(data)


class Clumsy(PickleSerializer):
    """Cannot read what it wrote."""

    def loads(self, data: bytes) -> Any:
        raise ZeroDivisionError(data)


def page(request: HttpRequest) -> HttpResponse:
    """Reads the session, and changes nothing; another request may run meanwhile."""
    request.session.get("cart")
    meanwhile()
    return HttpResponse()


async def apage(request: HttpRequest) -> HttpResponse:
    await request.session.aget("cart")
    meanwhile()
    return HttpResponse()


def touched(request: HttpRequest) -> HttpResponse:
    """Says that it has changed something, and has not."""
    request.session.modified = True
    return HttpResponse()


#: What happens while a page is made.
_meanwhile: list[Callable[[], None]] = []


def meanwhile() -> None:
    for happen in _meanwhile:
        thread = threading.Thread(target=happen)
        thread.start()
        thread.join()


urlpatterns = [
    path("sign_in", sign_in),
    path("who", who),
    path("page", page),
    path("touched", touched),
    path("a/sign_in", sign_in),
    path("a/who", awho),
    path("a/page", apage),
    path("a/touched", touched),
]


@pytest.fixture
def urlconf() -> str:
    return __name__


@pytest.fixture(autouse=True)
def nothing_happens() -> Iterator[None]:
    yield
    _meanwhile.clear()


def age(token: str, by: timedelta = 2 * DAY) -> None:
    """Let the last visit be so long ago."""
    record = stored(token)
    record["updated_at"] = write_time(read_time(record["updated_at"]) - by)
    secondary_storage.set(f"session:{token}", json.dumps(record, separators=(",", ":")), 999)
    seen_at = int((hash_of(token) or {})["seen_at"]) - by // timedelta(milliseconds=1)
    key = secondary_storage.keyspace.for_django().physical(f"session:{token}")
    fields = {"seen_at": b"%d" % seen_at}
    secondary_storage.backend.run(
        WriteSession(token, 999_000, "NX", None, key, None, fields=fields)
    )
    if isinstance(user_sessions(), StoredSessions):
        rows = apps.get_model("rustauth_django", "SessionRow").objects
        row = rows.get(key=key_of(token))
        visit = json.loads(row.visit) | {"seen_at": str(seen_at)}
        rows.filter(key=row.key).update(visit=json.dumps(visit))


@pytest.mark.parametrize("view", ["page", "touched"])
def test_prolonging_writes_times_alone(engine: Site, view: str) -> None:
    """SESS-10, SESS-20: the record keeps every other byte, and the cookie is renewed."""
    browser = Browser(engine)
    token = browser.sign_in()
    age(token)
    before, data = stored(token), hash_of(token)
    response = browser.get(view)
    after = stored(token)
    assert list(after) == list(before)
    assert {name for name in after if after[name] != before[name]} == {"expires_at", "updated_at"}
    assert hash_of(token) == {**(data or {}), "seen_at": (hash_of(token) or {})["seen_at"]}
    assert response.cookies["sessionid"].value == sign(token)
    assert (secondary_storage.ttl(f"session:{token}") or 0) > 999
    assert (secondary_storage.ttl("session:user:1") or 0) > 999


@pytest.mark.parametrize("every_request", [False, True])
def test_a_slow_page_undoes_nothing(engine: Site, every_request: bool) -> None:
    """A page that only reads neither brings back what another request removed, nor removes what
    it added.
    """
    browser = Browser(engine)
    token = browser.sign_in()
    other = SessionStore(sign(token))
    other["gone"] = 1
    other.save()

    def change() -> None:
        session = SessionStore(sign(token))
        del session["gone"]
        session["cart"] = [1]
        session.save()
        age(token)

    age(token)
    _meanwhile.append(change)
    with override_settings(SESSION_SAVE_EVERY_REQUEST=every_request):
        assert browser.get("page").status_code == 200
    assert data_of(token)["cart"] == [1]
    assert "gone" not in data_of(token)


def test_a_page_that_reads_is_no_error_when_its_session_ends_meanwhile(engine: Site) -> None:
    """It changed nothing, so that nothing is lost; and nothing comes back."""
    browser = Browser(engine)
    token = browser.sign_in()
    age(token)
    _meanwhile.append(lambda: revoke_sessions(person(1)) and None)
    assert browser.get("page").status_code == 200
    assert (stored(token), hash_of(token), index()) == (None, None, None)


def test_every_request_prolongs_if_the_site_wants_it(engine: Site) -> None:
    """SESSION_SAVE_EVERY_REQUEST."""
    browser = Browser(engine)
    token = browser.sign_in()
    before = stored(token)
    browser.get("page")
    assert stored(token) == before
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
        browser.get("page")
    assert read_time(stored(token)["updated_at"]) > read_time(before["updated_at"])


def test_a_session_is_prolonged_by_its_own_age(store: Store) -> None:
    """After ``set_expiry`` with a number of seconds, as django-allauth calls it at each sign-in."""
    for expiry, least, most in ((7 * 86_400, 6.9, 7), (0, 13.9, 14), (None, 13.9, 14)):
        session = store(_auth_user_id="1")
        session.set_expiry(expiry)
        session.save()
        token = session.target.token
        age(token)
        again = store(session.target.session_key)
        assert again.get("_auth_user_id") == "1"
        assert again.target.modified
        again.save()
        left = read_time(stored(token)["expires_at"]) - datetime.now(UTC)
        assert timedelta(least) < left <= timedelta(most)


def test_a_session_with_a_fixed_end_keeps_it(store: Store) -> None:
    """It is seen, and not prolonged."""
    session = store(_auth_user_id="1")
    session.set_expiry(datetime.now(UTC) + timedelta(days=3))
    session.save()
    token = session.target.token
    age(token)
    before = stored(token)
    again = store(session.target.session_key)
    again.load()
    again.save()
    after = stored(token)
    assert after["expires_at"] == before["expires_at"]
    assert read_time(after["updated_at"]) > read_time(before["updated_at"])


@pytest.mark.parametrize("name", EACH_SERVER)
@pytest.mark.parametrize(
    "outage", [["maxmemory", "1"], ["min-replicas-to-write", "3"], ["read-only", ""]]
)
def test_a_page_that_only_reads_needs_no_writes(
    name: str, prefix: str, runner: Any, outage: list[str]
) -> None:
    """A server that is full, or lacks its replicas, or is a replica itself."""
    with Server(name) as own, redis.Redis.from_url(own.url) as raw:
        site = Site(own.url, prefix, runner, ROOT_URLCONF=__name__)
        try:
            site.settings |= {
                "SESSION_ENGINE": "rustauth_django.sessions",
                "AUTHENTICATION_BACKENDS": ["tests.people.PeopleBackend"],
            }
            site.configure(ENABLED=False)
            browser = Browser(site)
            token = browser.sign_in()
            age(token)
            before = stored(token)
            if outage[0] == "read-only":
                raw.replicaof("127.0.0.1", 1)
                raw.config_set("replica-serve-stale-data", "yes")
            else:
                raw.config_set(*outage)
            with pytest.raises(BackendError):
                secondary_storage.set("x", "y", 60)
            assert browser.name == "ada"
            assert browser.get("touched").status_code == 200
            with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
                assert browser.name == "ada"
            assert stored(token) == before
        finally:
            site.close()


def test_an_outage_is_no_reason_to_lose_a_change(store: Store, dead_url: str) -> None:
    """Whoever changes something learns that it was not saved."""
    session = store(_auth_user_id="1")
    session.save()
    session = store(session.target.session_key)
    session.load()
    store.put(session, "cart", [1])
    away = {**settings.RUSTAUTH, "URL": dead_url}
    with override_settings(RUSTAUTH=away), pytest.raises(BackendError):
        session.save()


@pytest.mark.parametrize("name", ["PickleSerializer", "Clumsy"])
def test_the_serializer_is_the_site_s(store: Store, name: str) -> None:
    """SESSION_SERIALIZER; and what it cannot read is an empty session of nobody's."""
    with override_settings(SESSION_SERIALIZER=f"{__name__}.{name}"):
        session = store(_auth_user_id="1", what={1, 2})
        session.save()
        found = hash_of(session.target.token)
        assert found
        assert pickle.loads(found["data"]) == {"_auth_user_id": "1", "what": {1, 2}}
        again = store(session.target.session_key)
        if name == "PickleSerializer":
            assert again.get("what") == {1, 2}
        else:
            assert again.load() == {}
            store.put(again, "x", 1)
            again.save()
            assert stored(again.target.token)["user_id"] == ""
            assert index() is None


def test_content_that_was_written_otherwise_is_no_change(store: Store) -> None:
    """A set has another order in another process; 1 is still not True."""
    with override_settings(SESSION_SERIALIZER=f"{__name__}.PickleSerializer"):
        content = {"_auth_user_id": "1", "what": {"a", "b"}, "more": [{"x": (1, None)}]}
        session = store(**content)
        session.save()
        token = session.target.token
        key = secondary_storage.keyspace.for_django().physical(f"session:{token}")
        fields = {"data": pickle.dumps(content, 0)}
        secondary_storage.backend.run(
            WriteSession(token, 999_000, "NX", None, key, None, fields=fields)
        )
        age(token)
        again = store(session.target.session_key)
        assert again.load() == content
        again.save()
        assert (hash_of(token) or {})["data"] == fields["data"]
        again.get("more")[0]["x"] = (True, None)
        again.save()
        assert pickle.loads((hash_of(token) or {})["data"])["more"][0]["x"][0] is True


def test_a_login_of_which_two_requests_make_two_has_two_ids(store: Store) -> None:
    """A double click on "sign in": the visitor's id is one's of them."""
    visitor = store(cart=[1])
    visitor.save()
    first, second = (store(visitor.target.session_key) for _ in range(2))
    for one in (first, second):
        assert one.get("cart") == [1]
    for one in (first, second):
        one.cycle_key()
        store.put(one, "_auth_user_id", "1")
        one.save()
    listed = list_sessions(person(1))
    assert len({one.id for one in listed}) == len(listed) == 2
    assert stored(visitor.target.token) is None
    assert hash_of(visitor.target.token) is None


def test_ids_are_unique_however_a_session_gets_a_new_key(store: Store) -> None:
    """Signed in, and twice at once; neither was revoked."""
    session = store(_auth_user_id="1")
    session.save()
    both = [store(session.target.session_key) for _ in range(2)]
    for one in both:
        assert one.get("_auth_user_id") == "1"
    for one in both:
        one.cycle_key()
    assert [one.get("_auth_user_id") for one in both] == ["1", "1"]
    assert len({one.id for one in list_sessions(person(1))}) == 2


@pytest.mark.parametrize("spelling", ["007", " 7", "7"])
def test_a_user_has_one_spelling(store: Store, spelling: str) -> None:
    """That of the primary key's field, though ``login`` was given another."""
    session = store(_auth_user_id=spelling)
    session.save()
    assert stored(session.target.token)["user_id"] == "7"
    user = person(1)
    for user.pk in (7, "7", "07"):
        assert len(list_sessions(user)) == 1
    assert revoke_sessions(user) == 1


def test_a_lost_index_has_a_session_again_once_it_is_due(store: Store) -> None:
    """Evicted, or deleted by hand."""
    session = store(_auth_user_id="1")
    session.save()
    secondary_storage.delete("session:user:1")
    assert list_sessions(person(1)) == []
    age(session.target.token)
    again = store(session.target.session_key)
    again.load()
    again.save()
    assert index() == [session.target.token]


def test_replacing_what_was_never_read_keeps_the_session(store: Store) -> None:
    """``clear`` reads nothing; the session goes on under its id, and of nobody."""
    session = store(_auth_user_id="1", cart=[1])
    session.save()
    token = session.target.token
    before = stored(token)
    again = store(session.target.session_key)
    again.target.clear()
    again.save()
    assert stored(token)["id"] == before["id"]
    assert stored(token)["user_id"] == ""
    assert index() is None
    revoked = store(session.target.session_key)
    revoked.target.clear()
    secondary_storage.delete(f"session:{token}")
    with pytest.raises(UpdateError):
        revoked.save()


def test_a_key_is_signed_and_fits(store: Store) -> None:
    """RA-02: no copy of the server's data is a login; other packages' tables have 40 characters."""
    session = store(_auth_user_id="1")
    session.save()
    key, token = session.target.session_key, session.target.token
    assert len(key) == 40
    assert len(token) == TOKEN_LENGTH
    # What cookies need no quotes for.
    assert key.replace("-", "").replace("_", "").replace(".", "").isalnum()
    assert unsign(key) == token
    other = key[:-1] + ("A" if key[-1] != "A" else "B")
    for forged in (token, f"{token}.", other, key + "A", f"{token}.{'é' * 17}", f".{key}", None, 7):
        assert unsign(forged) is None
    for name in secondary_storage.list_keys():
        assert key not in name + (secondary_storage.get(name) or "")
    for bare in (token, other):
        assert store(bare).load() == {}
        assert store().exists(bare) is False
        store().delete(bare)
    assert store(key).get("_auth_user_id") == "1"


def test_a_forged_key_asks_no_server(dead_url: str) -> None:
    """The signature is checked before any I/O."""
    with override_settings(RUSTAUTH={"URL": dead_url}):
        forged = SessionStore(f"{'a' * TOKEN_LENGTH}.{'A' * 17}")
        assert forged.get("x") is None
        assert forged.session_key is None
        assert not SessionStore().exists(os.urandom(20).hex())


def test_old_secrets_are_good_until_they_are_gone() -> None:
    """SECRET_KEY_FALLBACKS; a COOKIE_SECRET has none."""
    token = "t" * TOKEN_LENGTH
    key = sign(token)
    with override_settings(SECRET_KEY="another", SECRET_KEY_FALLBACKS=["x", settings.SECRET_KEY]):
        assert unsign(key) == token
        assert sign(token) != key
    with override_settings(SECRET_KEY=b"another", SECRET_KEY_FALLBACKS=["x"]):
        assert unsign(key) is None
    shared = {"SESSIONS": {"COOKIE_SECRET": "s" * 32}}
    with override_settings(RUSTAUTH=shared, SECRET_KEY_FALLBACKS=["x"]):
        assert unsign(key) is None
        assert unsign(sign(token)) == token
        assert "ssss" not in repr(get_settings())


def test_clearing_the_storage_leaves_nothing(store: Store) -> None:
    """Neither half of a session."""
    session = store(_auth_user_id="1")
    session.save()
    assert secondary_storage.clear() == 2
    assert hash_of(session.target.token) is None


def test_times_are_those_of_the_site(store: Store) -> None:
    """USE_TZ off means local times without a zone, as everywhere in Django."""
    session = store(_auth_user_id="1")
    session.save()
    (aware,) = list_sessions(person(1))
    with override_settings(USE_TZ=False, TIME_ZONE="America/New_York"):
        (naive,) = list_sessions(person(1))
    assert aware.created_at.tzinfo
    for name in ("created_at", "last_seen", "expires_at"):
        assert getattr(naive, name).tzinfo is None
        there = make_aware(getattr(naive, name), ZoneInfo("America/New_York"))
        assert there == getattr(aware, name)
