"""Sessions: contract SESS, as an engine, as functions, and as two browsers see them."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from threading import Thread
from typing import Any

import pytest
import redis
from django.contrib.auth import aauthenticate, alogin, alogout, authenticate, login, logout
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, override_settings
from django.urls import path

from rustauth_django import BackendUnavailable, RustAuthStores, secondary_storage, sessions
from rustauth_django.connections import arun, get_stores
from rustauth_django.engine.keyspace import MAX_SESSIONS, pages
from rustauth_django.engine.operations import GetMany, Unlink
from rustauth_django.engine.plans import drive
from rustauth_django.engine.records import read_time
from rustauth_django.sessions import SessionStore
from rustauth_django.sessions.cookies import sign, unsign
from rustauth_django.sessions.current import begin_request, end_request
from rustauth_django.sessions.index import UserSessions
from rustauth_django.sessions.operations import ReadHash
from rustauth_django.sessions.records import DjangoPart, SessionRecord
from rustauth_django.sessions.store import user_sessions
from rustauth_django.sessions.users import _revoking_one
from rustauth_django.signals import sessions_revoked

from .faces import Face
from .people import PASSWORD, person, sessions_of
from .servers import PATIENT, Server
from .site import PeerClient, Site
from .stepwise import after_step

ENGINE = {"SESSION_ENGINE": "rustauth_django.sessions"}
BACKEND = "tests.people.PeopleBackend"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"
NOW = datetime(2026, 6, 5, 12, 34, 56, 123456, tzinfo=UTC)
GOLDEN = (
    '{"id":"session_1","user_id":"user_1","expires_at":"2026-06-05T12:34:56.123456Z",'
    '"token":"token_12","ip_address":null,"user_agent":null,'
    '"created_at":"2026-06-05T12:34:56Z","updated_at":"2026-06-05T12:34:56.5Z"}'
)


def sign_in(request: HttpRequest) -> HttpResponse:
    user = authenticate(request, username=request.GET["name"], password=PASSWORD)
    assert user is not None
    login(request, user, backend=BACKEND)
    return JsonResponse({"key": request.session.session_key})


async def asign_in(request: HttpRequest) -> HttpResponse:
    user = await aauthenticate(request, username=request.GET["name"], password=PASSWORD)
    assert user is not None
    await alogin(request, user, backend=BACKEND)
    return JsonResponse({"key": request.session.session_key})


def who(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"name": request.user.get_username()})


async def awho(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"name": (await request.auser()).get_username()})


def devices(request: HttpRequest) -> HttpResponse:
    found = sessions.list_sessions(request.user, request)
    return JsonResponse({"sessions": [(one.id, one.is_current, one.device) for one in found]})


async def adevices(request: HttpRequest) -> HttpResponse:
    found = await sessions.alist_sessions(await request.auser(), request)
    return JsonResponse({"sessions": [(one.id, one.is_current, one.device) for one in found]})


def revoke(request: HttpRequest) -> HttpResponse:
    match request.GET.get("id"):
        case None:
            return JsonResponse({"count": sessions.revoke_sessions(request.user)})
        case "others":
            return JsonResponse({"count": sessions.revoke_other_sessions(request)})
        case id:
            return JsonResponse({"count": sessions.revoke_session(request.user, id)})


async def arevoke(request: HttpRequest) -> HttpResponse:
    user = await request.auser()
    match request.GET.get("id"):
        case None:
            return JsonResponse({"count": await sessions.arevoke_sessions(user)})
        case "others":
            return JsonResponse({"count": await sessions.arevoke_other_sessions(request)})
        case id:
            return JsonResponse({"count": await sessions.arevoke_session(user, id)})


def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse()


async def asign_out(request: HttpRequest) -> HttpResponse:
    await alogout(request)
    return HttpResponse()


def note(request: HttpRequest) -> HttpResponse:
    request.session["note"] = request.GET["note"]
    return HttpResponse()


async def anote(request: HttpRequest) -> HttpResponse:
    await request.session.aset("note", request.GET["note"])
    return HttpResponse()


def revoked_meanwhile(request: HttpRequest) -> HttpResponse:
    """A revocation by another request while this one is under way."""
    request.session["late"] = True
    other = Thread(target=sessions.revoke_sessions, args=(person(1),))
    other.start()
    other.join()
    return HttpResponse()


urlpatterns = [
    path(prefix + view.__name__.removeprefix("a" if prefix else ""), view)
    for prefix, views in {
        "": (sign_in, who, devices, revoke, sign_out, note, revoked_meanwhile),
        "a/": (asign_in, awho, adevices, arevoke, asign_out, anote),
    }.items()
    for view in views
]


@pytest.fixture
def urlconf() -> str:
    return __name__


@pytest.fixture
def engine(site: Site) -> Site:
    """The engine on each backend, under WSGI and ASGI."""
    site.settings |= {**ENGINE, "AUTHENTICATION_BACKENDS": [BACKEND]}
    site.configure(ENABLED=False)
    return site


class Browser:
    """A client with cookies of its own, to views of its own kind."""

    def __init__(self, site: Site, agent: str = FIREFOX) -> None:
        self.site, self.agent = site, agent
        self.prefix = "/a/" if site.runner else "/"
        self.client: Any = PeerClient() if site.runner else Client()
        self.client.raise_request_exception = False

    def get(self, path: str, **headers: str) -> Any:
        self.site.client = self.client
        return self.site.get(self.prefix + path, user_agent=self.agent, **headers)

    def sign_in(self, name: str = "ada") -> str:
        response = self.get(f"sign_in?name={name}")
        assert response.status_code == HTTPStatus.OK
        return token_of(response.json()["key"])

    @property
    def name(self) -> str:
        return self.get("who").json()["name"]

    def devices(self) -> Any:
        return self.get("devices").json()["sessions"]


def token_of(session_key: str) -> str:
    """The name of a session on the server; the browser has it signed."""
    token = unsign(session_key)
    assert token
    return token


def stored(token: str) -> dict[str, Any]:
    return json.loads(secondary_storage.get(f"session:{token}") or "null")


def hash_of(token: str) -> dict[str, bytes] | None:
    """What Django has added to a session."""
    key = secondary_storage.keyspace.for_django().physical(f"session:{token}")
    return secondary_storage.backend.run(ReadHash(key))


def data_of(token: str) -> Any:
    found = hash_of(token)
    return found and json.loads(found["data"])


def index(user_id: Any = 1) -> Any:
    return json.loads(secondary_storage.get(f"session:user:{user_id}") or "null")


def test_signing_in_leaves_two_keys_and_revoking_none(engine: Site) -> None:
    """SESS-17, SESS-06, SESS-12, KEY-06: a record and an index; then nothing, and nobody."""
    browser = Browser(engine)
    token = browser.sign_in()
    assert sorted(secondary_storage.list_keys()) == sorted([f"session:{token}", "session:user:1"])
    assert browser.name == "ada"
    assert index() == [token]
    assert [current for _, current, _ in browser.devices()] == [True]
    assert browser.get("revoke").json() == {"count": 1}
    assert secondary_storage.list_keys() == []
    assert browser.name == ""


def test_the_record_is_rustauths(engine: Site) -> None:
    """SESS-01, SESS-02, IP-06: its eight fields in their order, and Django's beside them."""
    browser = Browser(engine)
    token = browser.sign_in()
    record = stored(token)
    assert list(record) == [
        *("id", "user_id", "expires_at", "token", "ip_address", "user_agent"),
        *("created_at", "updated_at"),
    ]
    assert (record["user_id"], record["token"]) == ("1", token)
    assert (record["ip_address"], record["user_agent"]) == ("127.0.0.1", FIREFOX)
    assert data_of(token)["_auth_user_id"] == "1"
    browser.get("note?note=x")
    after = stored(token)
    assert data_of(token)["note"] == "x"
    same = ("id", "user_id", "token", "ip_address", "user_agent", "created_at")
    assert {name: after[name] for name in same} == {name: record[name] for name in same}
    # Texts would not do: fractions of a second have no trailing zeros.
    assert read_time(after["updated_at"]) > read_time(record["updated_at"])
    assert " " not in (secondary_storage.get("session:user:1") or " ")


def test_signing_out_ends_it_for_good(engine: Site) -> None:
    """SESS-18, SESS-11, QUIRK-01: the cookie that was copied is worth nothing."""
    browser, thief = Browser(engine), Browser(engine)
    token = browser.sign_in()
    thief.client.cookies["sessionid"] = sign(token)
    assert thief.name == "ada"
    browser.get("sign_out")
    assert secondary_storage.list_keys() == []
    assert (browser.name, thief.name) == ("", "")


def test_one_session_is_revoked_by_its_owner_alone(engine: Site) -> None:
    """SESS-19: by its id or its token; of somebody else's nothing happens."""
    ada, phone, grace = Browser(engine), Browser(engine, "curl/8"), Browser(engine)
    ada.sign_in()
    token = phone.sign_in()
    grace.sign_in("grace")
    (own,) = [id for id, current, _ in ada.devices() if current]
    (other,) = [id for id, current, _ in ada.devices() if not current]
    assert grace.get(f"revoke?id={other}").json() == {"count": False}
    assert grace.get(f"revoke?id={token}").json() == {"count": False}
    assert phone.name == "ada"
    assert ada.get(f"revoke?id={other}").json() == {"count": True}
    assert ada.get(f"revoke?id={other}").json() == {"count": False}
    assert (ada.name, phone.name, grace.name) == ("ada", "", "grace")
    phone.sign_in()
    assert ada.get("revoke?id=others").json() == {"count": 1}
    assert [id for id, *_ in ada.devices()] == [own]
    assert (ada.name, phone.name) == ("ada", "")


def test_devices_are_told_in_words(engine: Site) -> None:
    """SESS-09, SESS-14, SESS-26: in the order in which they signed in."""
    ada, phone = Browser(engine), Browser(engine, "curl/8.5")
    ada.sign_in()
    phone.sign_in()
    assert [device for *_, device in ada.devices()] == ["Firefox on Windows", "curl"]


def test_a_token_with_a_colon_is_no_session(engine: Site) -> None:
    """QUIRK-17: nobody reads an index as a session, nor revokes it."""
    browser, other = Browser(engine), Browser(engine)
    browser.sign_in()
    other.client.cookies["sessionid"] = "user:1"
    assert other.name == ""
    assert browser.get("revoke?id=user:1").json() == {"count": False}
    assert browser.name == "ada"


def test_a_corrupt_record_breaks_nothing(engine: Site) -> None:
    """QUIRK-04, SESS-15, SESS-27: it is skipped, falls out, and is gone with revoke-all."""
    ada = Browser(engine)
    token = ada.sign_in()
    for junk in ("null", "[]", "{", '{"id":"x"}', "\x00", "[" * 5_000, '{"token":5}'):
        bad = Browser(engine).sign_in()
        secondary_storage.set(f"session:{bad}", junk, 60)
        assert [current for _, current, _ in ada.devices()] == [True]
        assert index() == [token]
    bad = Browser(engine).sign_in()
    secondary_storage.set(f"session:{bad}", "junk", 60)
    ada.get("revoke")
    assert secondary_storage.list_keys() == []


@pytest.mark.parametrize(
    "junk", ["", "null", "{}", "[1, null, {}]", '"x"', "[" * 5_000, "[", '["\\ud800"]']
)
def test_a_corrupt_index_breaks_nothing(engine: Site, junk: str) -> None:
    """QUIRK-04: it begins anew with the next sign-in."""
    ada = Browser(engine)
    ada.sign_in()
    secondary_storage.set("session:user:1", junk, 60)
    assert ada.devices() == []
    assert ada.get("revoke").json() == {"count": 0}
    token = Browser(engine).sign_in()
    assert index() == [token]


def test_a_revocation_is_not_undone_by_a_request_under_way(engine: Site) -> None:
    """QUIRK-03: it ends as a 400, as Django has it, and nothing is back."""
    browser = Browser(engine)
    token = browser.sign_in()
    engine.client = browser.client
    response = engine.get("/revoked_meanwhile")
    assert response.status_code == HTTPStatus.BAD_REQUEST
    assert secondary_storage.get(f"session:{token}") is None
    assert browser.name == ""


@pytest.mark.parametrize("settings", [{"TRACK_IP": False}, {"IP_HEADERS": ["X-Real-IP"]}])
def test_without_tracking_no_address_is_stored(engine: Site, settings: Any) -> None:
    """IP-01: nor one that nobody can believe."""
    engine.configure(ENABLED=False, **settings)
    assert stored(Browser(engine).sign_in())["ip_address"] is None


@pytest.fixture
def store(engine: Site) -> "Store":
    return Store(engine)


class Store:
    """Makes sessions, and calls their methods by the face of the site."""

    def __init__(self, site: Site) -> None:
        self.runner = site.runner

    def __call__(self, key: str | None = None, **data: Any) -> Any:
        session = Face(SessionStore(key), self.runner)
        for name, value in data.items():
            self.put(session, name, value)
        return session

    def put(self, session: Any, name: str, value: Any) -> None:
        if self.runner is None:
            session.target[name] = value
        else:
            session.set(name, value)


def test_saving_never_brings_a_session_back(store: Store) -> None:
    """QUIRK-03: not by save, nor by a new key; what it held is gone."""
    session = store(_auth_user_id="1", secret="x")
    session.save()
    key = session.target.session_key
    late, moved = store(key), store(key)
    assert late.get("secret") == moved.get("secret") == "x"
    assert sessions.revoke_sessions(person(1)) == 1
    store.put(late, "more", 1)
    with pytest.raises(UpdateError):
        late.save()
    moved.cycle_key()
    assert moved.get("secret") is None
    assert moved.target.session_key != key
    assert index() is None


def test_creating_never_overwrites(store: Store) -> None:
    """Even if the dice fall alike."""
    session = store(name="first")
    session.save()
    other = store(name="second")
    other.target._session_key = session.target.session_key
    with pytest.raises(CreateError):
        other.save(must_create=True)
    assert data_of(session.target.token) == {"name": "first"}


def test_a_new_key_moves_the_index(store: Store) -> None:
    """The old token is in it no longer, and is no session."""
    session = store(_auth_user_id="1")
    session.save()
    old, record = session.target.token, stored(session.target.token)
    session.cycle_key()
    new = session.target.token
    assert new != old
    assert index() == [new]
    assert stored(old) is None
    assert stored(new)["id"] == record["id"]
    session.flush()
    assert (index(), stored(new)) == (None, None)


def test_what_json_cannot_hold_is_an_error_at_save(store: Store) -> None:
    """Not a surprise when it is read."""
    for value in (object(), {1, 2}, b"bytes"):
        session = store(thing=value)
        with pytest.raises((TypeError, ValueError)):
            session.save()


def test_an_expired_session_is_none(store: Store) -> None:
    """SESS-08, SESS-03: by its own word, even if the server still has it."""
    session = store(_auth_user_id="1")
    session.set_expiry(-1)
    session.save()
    assert store(session.target.session_key).load() == {}
    session = store(_auth_user_id="1")
    session.save()
    record = stored(session.target.token)
    record["expires_at"] = "2026-01-01T00:00:00Z"
    secondary_storage.set(f"session:{session.target.token}", json.dumps(record), 60)
    assert store(session.target.session_key).load() == {}
    assert sessions.list_sessions(person(1)) == []


def test_the_index_lives_as_long_as_its_longest_session(store: Store) -> None:
    """SESS-04, SESS-05: a shorter one does not shorten it."""
    for seconds, least, most in [(7_200, 7_100, 7_200), (10_800, 10_700, 10_800)] * 2:
        session = store(_auth_user_id="1")
        session.set_expiry(seconds)
        session.save()
        ttl = secondary_storage.ttl("session:user:1") or 0
        assert max(least, 0) < ttl <= max(most, 10_800)
    assert 10_700 < (secondary_storage.ttl("session:user:1") or 0) <= 10_800


def test_tokens_that_are_gone_fall_out(store: Store) -> None:
    """SESS-07: when they are listed, and each time an index has doubled."""
    for _ in range(40):
        session = store(_auth_user_id="1")
        session.save()
        secondary_storage.delete(f"session:{session.target.token}")
    assert len(index()) < 40
    assert sessions.list_sessions(person(1)) == []
    assert index() is None


@pytest.fixture
def rustauths(store: Store) -> str:
    """The record of a session that a RustAuth service has just prolonged."""
    future = (datetime.now(UTC) + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    text = GOLDEN.replace("2026-06-05T12:34:56.123456Z", future)
    secondary_storage.set("session:token_12", text, 60)
    secondary_storage.set("session:user:user_1", '["token_12"]', 60)
    return text


def test_a_session_of_rustauths_is_nobodys_at_django(store: Store, rustauths: str) -> None:
    """It is listed and can be revoked, its cookie stays, and Django never prolongs it."""
    session = store(sign("token_12"))
    assert session.load() == {}
    assert (session.target.modified, session.target.is_empty()) == (False, False)
    session.save()
    assert secondary_storage.get("session:token_12") == rustauths
    assert hash_of("token_12") is None
    (listed,) = sessions.list_sessions(User(pk="user_1"))
    assert listed.id == "session_1"
    assert sessions.revoke_sessions(User(pk="user_1")) == 1
    assert store(sign("token_12")).load() == {}


def test_what_django_adds_to_a_session_of_rustauths_is_beside_it(
    store: Store, rustauths: str
) -> None:
    """SESS-01: the record and its times stay as they are, however often Django saves."""
    for number in range(3):
        session = store(sign("token_12"))
        assert session.get("visits") == (number - 1 if number else None)
        store.put(session, "visits", number)
        session.save()
    assert data_of("token_12") == {"visits": 2}
    assert secondary_storage.get("session:token_12") == rustauths
    assert index("user_1") == ["token_12"]
    assert (secondary_storage.ttl("session:token_12") or 0) <= 60
    late = store(sign("token_12"), visits=9)
    sessions.revoke_sessions(User(pk="user_1"))
    with pytest.raises(UpdateError):
        late.save()


def test_a_refresh_by_rustauth_ends_no_login_of_djangos(store: Store) -> None:
    """RA-03: it writes its eight fields and nothing else."""
    session = store(_auth_user_id="1", cart=[1])
    session.save()
    token = session.target.token
    record = SessionRecord.from_json(secondary_storage.get(f"session:{token}") or "")
    later = record._replace(expires_at=record.expires_at + timedelta(days=7))
    secondary_storage.set(f"session:{token}", later.to_json(), 99)
    assert store(session.target.session_key).get("cart") == [1]


def test_of_two_requests_that_get_a_new_key_neither_loses_its_data(store: Store) -> None:
    """A doubled click is no revocation: both go on, each under a key of its own."""
    session = store(_auth_user_id="1", cart=[1])
    session.save()
    first, second = store(session.target.session_key), store(session.target.session_key)
    assert first.get("cart") == second.get("cart") == [1]
    for one in (first, second):
        one.cycle_key()
        assert one.get("_auth_user_id") == "1"


def test_a_session_that_gets_a_new_key_meanwhile_is_revoked(store: Store) -> None:
    """By its id, which stays, or by the key that it had."""
    for names in (lambda one: one.id, lambda one: one.session_key):
        session = store(_auth_user_id="1", cart=[1])
        session.save()
        moving = store(session.target.session_key)
        assert moving.get("cart") == [1]
        plan = _revoking_one("1", names(session.target))
        ended = after_step(2, plan, moving.cycle_key)
        assert len(ended) == 1
        assert store(moving.target.session_key).load() == {}
        assert index() is None


def test_the_second_of_two_new_keys_is_revoked_with_the_first(store: Store) -> None:
    """Whoever revokes before it is stored has not seen it."""
    session = store(_auth_user_id="1", cart=[1])
    session.save()
    first, second = store(session.target.session_key), store(session.target.session_key)
    assert first.get("cart") == second.get("cart") == [1]
    first.cycle_key()
    create = "create" if store.runner is None else "acreate"
    original = getattr(second.target, create)

    def revoke() -> None:
        delattr(second.target, create)
        assert drive(user_sessions().revoke("1"), get_stores().backend.run)

    def create_late() -> Any:
        revoke()
        return original()

    async def acreate_late() -> Any:
        revoke()
        return await original()

    setattr(second.target, create, acreate_late if store.runner else create_late)
    second.cycle_key()
    assert second.get("cart") is None
    assert store(second.target.session_key).load() == {}
    assert index() is None


def test_a_session_that_was_due_and_is_ended_by_its_view_is_no_error(store: Store) -> None:
    """The view changed nothing: it was to be prolonged, and is gone."""
    session = store(_auth_user_id="1")
    session.save()
    key, token = session.target.session_key, session.target.token
    aged = {**stored(token), "updated_at": "2026-01-01T00:00:00Z"}
    secondary_storage.set(f"session:{token}", json.dumps(aged), 60)
    quiet, loud = store(key), store(key)
    assert quiet.load() is not None
    quiet.get("x")
    loud.get("x")
    sessions.revoke_sessions(person(1))
    quiet.save()
    store.put(loud, "x", 1)
    with pytest.raises(UpdateError):
        loud.save()
    assert stored(token) is None


def test_half_a_pair_is_kept(store: Store) -> None:
    """As anybody may send it in JSON."""
    session = store(q="\ud800")
    session.save()
    assert store(session.target.session_key).get("q") == "\ud800"


def test_times_without_a_zone_are_read_as_the_site_s(store: Store) -> None:
    """USE_TZ may be off."""
    with override_settings(USE_TZ=False):
        session = store()
        session.set_expiry(timedelta(hours=1))
        session.save()
    left = secondary_storage.ttl(f"session:{session.target.token}")
    assert left
    assert left > 0


def test_a_session_that_never_was_is_not_saved(store: Store) -> None:
    """Nor begun under the name that a client made up."""
    with pytest.raises(UpdateError):
        store(sign("a" * 32)).save()


def test_visitors_have_sessions_too(store: Store) -> None:
    """Of nobody, and in no index."""
    session = store(cart=[1, 2])
    session.save()
    assert stored(session.target.token)["user_id"] == ""
    assert secondary_storage.list_keys() == [f"session:{session.target.token}"]


def test_a_session_that_changes_hands_changes_its_index(store: Store) -> None:
    """Though Django itself would make a new one."""
    session = store(_auth_user_id="1")
    session.save()
    store.put(session, "_auth_user_id", "2")
    session.save()
    assert (index(1), index(2)) == (None, [session.target.token])


def test_an_outage_is_an_error(store: Store, dead_url: str) -> None:
    """Nobody is taken for a visitor because of it."""
    with (
        override_settings(RUSTAUTH={"URL": dead_url}),
        pytest.raises(BackendUnavailable),
    ):
        store(sign("a" * 32)).load()


@pytest.mark.parametrize("token", ["a:" * 8, "user:1", "short", "ä" * 9, "a\n" * 9, "x" * 257, ""])
def test_what_is_no_token_is_no_session(store: Store, token: str) -> None:
    """QUIRK-17: and asks for nothing, signed or not."""
    for key in (token, sign(token)):
        session = store(key)
        assert session.get("x") is None
        assert session.target.session_key is None
        assert store().exists(key) is False
        store().delete(key)


def test_the_wire_is_rustauths() -> None:
    """SESS-01, PORT-06: byte for byte, and times of nine digits are read."""
    record = SessionRecord.from_json(GOLDEN)
    assert record.to_json() == GOLDEN
    nano = GOLDEN.replace("56.123456Z", "56.123456789Z")
    assert SessionRecord.from_json(nano) == record
    assert record.expires_at == NOW
    unknown = GOLDEN.replace('"id"', '"more":[1],"id"').replace('"ip_address":null,', "")
    assert SessionRecord.from_json(unknown) == record
    assert "token_12" not in repr(record)
    umlaut = SessionRecord.from_json(GOLDEN.replace('"user_agent":null', '"user_agent":"größe/1"'))
    assert "größe" in umlaut.to_json()
    for name in ("id", "user_id", "token", "expires_at", "created_at", "updated_at"):
        with pytest.raises(ValueError, match="text|time"):
            SessionRecord.from_json(GOLDEN.replace(f'"{name}"', '"other"'))


def test_clearsessions_says_who_does_it(capsys: pytest.CaptureFixture[str]) -> None:
    """And does nothing."""
    with override_settings(**ENGINE):
        call_command("clearsessions")
    assert "the server removes sessions as they expire" in capsys.readouterr().out


def record_of(token: str, user_id: str = "7") -> SessionRecord:
    now = datetime.now(UTC)
    return SessionRecord(
        f"id-{token[0]}", user_id, now + timedelta(hours=1), token, None, None, now, now
    )


def part_of(record: SessionRecord) -> DjangoPart:
    return DjangoPart(b"{}", record.updated_at)


def begin(sessions: UserSessions, record: SessionRecord) -> Any:
    """A plan that begins a session, if its token is new. Is it?"""
    put = sessions.put(record, part_of(record), "NX", is_new_login=True)
    return (yield from put) is not None


def again(sessions: UserSessions, record: SessionRecord) -> Any:
    """A plan that saves a session, if it is still there. Is it?"""
    return (yield from sessions.put(record, part_of(record), "XX")) is not None


@pytest.mark.slow
def test_a_thousand_sign_ins_at_once_are_all_in_the_index(server: Server, prefix: str) -> None:
    """QUIRK-02: none is lost."""
    with RustAuthStores.from_url(server.url, key_prefix=prefix, client_options=PATIENT) as stores:
        user, run = sessions_of(stores), stores.backend.run
        tokens = [f"{number:032}" for number in range(1_000)]
        with ThreadPoolExecutor(64) as pool:
            assert all(pool.map(lambda t: drive(begin(user, record_of(t)), run), tokens))
        listed = drive(user.of_user("7"), run)
        assert sorted(one.record.token for one in listed) == tokens


def test_revoking_all_while_others_sign_in(server: Server, prefix: str) -> None:
    """Nothing that was signed in before it lives; nothing that came after is lost."""
    with RustAuthStores.from_url(server.url, key_prefix=prefix, client_options=PATIENT) as stores:
        user, run = sessions_of(stores), stores.backend.run

        def sign_in(number: int) -> str:
            token = f"{number:032}"
            drive(begin(user, record_of(token)), run)
            return token

        with ThreadPoolExecutor(16) as pool:
            before = list(pool.map(sign_in, range(200)))
            during = pool.map(sign_in, range(200, 400))
            drive(user.revoke("7"), run)
            after = set(during)
        live = {one.record.token for one in drive(user.of_user("7"), run)}
        root = stores.secondary_storage.keyspace.root
        alive = run(GetMany(tuple(f"{root}session:{t}" for t in [*before, *sorted(after)])))
        assert not live & set(before)
        assert {t for t, text in zip([*before, *sorted(after)], alive, strict=True) if text} == live


def test_a_refresh_never_revives_what_is_being_revoked(server: Server, prefix: str) -> None:
    """QUIRK-03: whoever is first; ``make bench`` does it 10,000 times."""
    with RustAuthStores.from_url(server.url, key_prefix=prefix, client_options=PATIENT) as stores:
        user, run = sessions_of(stores), stores.backend.run
        with ThreadPoolExecutor(4) as pool:
            for number in range(200):
                record = record_of(f"{number:032}")
                drive(begin(user, record), run)
                racers = [
                    pool.submit(lambda r=record: drive(again(user, r), run)),
                    pool.submit(lambda: drive(user.revoke("7"), run)),
                    pool.submit(lambda r=record: drive(user.touch(r, *[part_of(r)] * 2), run)),
                ]
                for racer in racers:
                    racer.result()
                assert drive(user.find(record.token), run) is None
                assert drive(user.of_user("7"), run) == []


async def test_tasks_sign_in_at_once(server: Server, prefix: str) -> None:
    """QUIRK-02: on one event loop as well."""
    stores = RustAuthStores.from_url(server.url, key_prefix=prefix, client_options=PATIENT)
    user = sessions_of(stores)
    patient = {"URL": server.url, "KEY_PREFIX": prefix, "CLIENT_OPTIONS": PATIENT}
    with override_settings(RUSTAUTH=patient):
        tokens = [f"{number:032}" for number in range(200)]
        await asyncio.gather(*(arun(begin(user, record_of(t))) for t in tokens))
        assert len(await sessions.alist_sessions(User(pk=7))) == 200
        await get_stores().aclose()
    stores.close()


def test_what_is_no_text_breaks_nothing(server_stores: RustAuthStores, raw: Any) -> None:
    """QUIRK-04: bytes that are no UTF-8, and keys of another type."""
    user, run = sessions_of(server_stores), server_stores.backend.run
    root = server_stores.secondary_storage.keyspace.root
    for put in (lambda key: raw.set(key, b"\xff"), lambda key: raw.lpush(key, "x")):
        raw.delete(f"{root}session:user:7")
        put(f"{root}session:user:7")
        assert drive(user.of_user("7"), run) == []
        assert drive(user.revoke("7"), run) == []
        token = "b" * 32
        raw.delete(f"{root}session:{token}")
        put(f"{root}session:{token}")
        assert drive(user.find(token), run) is None
        assert drive(user.remove(token), run)


def test_a_revocation_finds_a_session_that_gets_a_new_key(server_stores: RustAuthStores) -> None:
    """Between its look at the index and the end of the old key; what begins then is spared."""
    user, run = sessions_of(server_stores), server_stores.backend.run
    old = record_of("a" * 32)
    drive(begin(user, old), run)
    plan = user.revoke("7")
    step = next(plan)
    asked = 0
    try:
        while True:
            answer = run(step)
            asked += isinstance(step, GetMany)
            if asked == 2:
                asked += 1
                new = old._replace(token="b" * 32)
                assert drive(user.move(old, new, part_of(new)), run)
                drive(begin(user, record_of("c" * 32)), run)
            step = plan.send(answer)
    except StopIteration:
        pass
    assert [one.record.token for one in drive(user.of_user("7"), run)] == ["c" * 32]


def test_an_index_of_another_type_begins_anew(server_stores: RustAuthStores, raw: Any) -> None:
    """As anything else that is no index."""
    user, run = sessions_of(server_stores), server_stores.backend.run
    raw.lpush(f"{server_stores.secondary_storage.keyspace.root}session:user:7", "x")
    assert drive(begin(user, record_of("a" * 32)), run)
    assert [one.record.token for one in drive(user.of_user("7"), run)] == ["a" * 32]


def test_odd_tokens_keep_their_names(server_stores: RustAuthStores, raw: redis.Redis) -> None:
    """SESS-02: the index is written as serde writes it."""
    user, run = sessions_of(server_stores), server_stores.backend.run
    tokens = ["a/b/c/d/e", "back\\slash\\/x", 'quote"quote', "x" * 256]
    for token in tokens:
        assert drive(begin(user, record_of(token)), run)
    text = raw.get(f"{server_stores.secondary_storage.keyspace.root}session:user:7")
    assert text == json.dumps(tokens, separators=(",", ":"))
    assert drive(user.remove(tokens[0]), run)
    text = raw.get(f"{server_stores.secondary_storage.keyspace.root}session:user:7")
    assert text == json.dumps(tokens[1:], separators=(",", ":"))


def test_the_oldest_sessions_end_when_there_are_too_many(stores: RustAuthStores) -> None:
    """With the next one the first ends, and all others go on; tokens without a session fall out."""
    user, run, storage = sessions_of(stores, most=3), stores.backend.run, stores.secondary_storage
    oldest, *others = (f"{number:032}" for number in range(4))
    for token in (oldest, *others[:2]):
        assert drive(begin(user, record_of(token)), run)
    gone = [f"gone-{number:030}" for number in range(MAX_SESSIONS)]
    storage.set("session:user:7", json.dumps([oldest, *gone, *others[:2]]), 3600)
    assert drive(begin(user, record_of(others[2])), run)
    assert drive(user.find(oldest), run) is None
    assert json.loads(storage.get("session:user:7") or "") == others


@pytest.fixture
def accounts(prefix: str, one_server: Server, db: None) -> Any:
    """Real users, and the engine on a real server."""
    settings = {"RUSTAUTH": {"URL": one_server.url, "KEY_PREFIX": prefix}, **ENGINE}
    with override_settings(**settings):
        yield User.objects.create_user("ada", password=PASSWORD)


class Banned(User):
    """A proxy."""

    class Meta:
        proxy = True
        app_label = "auth"


def signed_in(user: User, **data: Any) -> str:
    session = SessionStore()
    session.update({"_auth_user_id": str(user.pk), **data})
    session.save()
    assert session.token
    return session.token


@pytest.mark.parametrize("change", ["password", "deactivation", "deletion"])
def test_a_change_of_the_user_ends_sessions(
    accounts: User, change: str, django_capture_on_commit_callbacks: Any
) -> None:
    """A new password spares the session that is at work; a user who is out has none."""
    own, other = signed_in(accounts), signed_in(accounts)
    pk = accounts.pk
    begin_request(sender=None)
    SessionStore(sign(own)).load()
    told: list[int] = []

    def note(**named: Any) -> None:
        told.append(named["count"])

    sessions_revoked.connect(note)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            if change == "password":
                accounts.set_password("another horse")
                accounts.save()
            elif change == "deactivation":
                accounts.is_active = False
                accounts.save(update_fields=["is_active"])
            else:
                accounts.delete()
            assert index(pk) == [own, other], "not before it is certain"
    finally:
        sessions_revoked.disconnect(note)
        end_request()
    assert index(pk) == ([own] if change == "password" else None)
    assert told == [1 if change == "password" else 2]


def test_a_proxy_is_the_user(accounts: User, django_capture_on_commit_callbacks: Any) -> None:
    """As many an admin has one; a subclass of the engine is the engine."""
    token = signed_in(accounts)
    with (
        override_settings(SESSION_ENGINE="tests.session_engine"),
        django_capture_on_commit_callbacks(execute=True),
    ):
        banned = Banned.objects.get(pk=accounts.pk)
        banned.is_active = False
        banned.save()
        assert index(accounts.pk) == [token]
    assert index(accounts.pk) is None


def test_what_is_no_change_ends_nothing(
    accounts: User, django_capture_on_commit_callbacks: Any
) -> None:
    """Any other save, a hash that is brought up to date, and a site that does not want it."""
    token = signed_in(accounts)
    with django_capture_on_commit_callbacks(execute=True):
        accounts.first_name = "Ada"
        accounts.save()
        accounts.set_password(PASSWORD)
        accounts._password = None  # what Django does as it brings a hash up to date
        accounts.save(update_fields=["password"])
        User.objects.create_user("grace")
    assert index(accounts.pk) == [token]
    from django.conf import settings

    quiet = {**settings.RUSTAUTH, "SESSIONS": {"REVOKE_ON_CHANGE": False}}
    with override_settings(RUSTAUTH=quiet), django_capture_on_commit_callbacks(execute=True):
        accounts.set_password("another horse")
        accounts.save()
        assert index(accounts.pk) == [token]


def test_changing_ones_password_keeps_ones_session(
    accounts: User, django_capture_on_commit_callbacks: Any
) -> None:
    """Django's own view: this browser stays, under a new key, and the other is out."""
    with override_settings(ROOT_URLCONF="django.contrib.auth.urls"):
        here, there = Client(), Client()
        for client in (here, there):
            client.force_login(accounts)
        new = {"new_password1": "a new horse!", "new_password2": "a new horse!"}
        with django_capture_on_commit_callbacks(execute=True):
            response = here.post("/password_change/", {"old_password": PASSWORD, **new})
        assert response.status_code == HTTPStatus.FOUND
        assert index(accounts.pk) == [here.session.token]  # type: ignore[attr-defined]
        assert here.session["_auth_user_id"] == str(accounts.pk)
        assert "_auth_user_id" not in there.session


def test_revoking_everything_is_one_walk(server_stores: RustAuthStores) -> None:
    """The first page of it meets sessions and indexes, and nothing else of the storage."""
    storage, user = (
        server_stores.secondary_storage,
        sessions_of(server_stores),
    )
    storage.set("magic-link:x", "1", 60)
    for number in range(5):
        record = record_of(f"{number:032}", str(number))
        drive(begin(user, record), server_stores.backend.run)
    found = [key for page in pages(server_stores.backend, [user.first_page()]) for key in page]
    assert {user.user_of(key) for key in found} == {None, "0", "1", "2", "3", "4"}
    server_stores.backend.run(Unlink(tuple(found)))
    assert storage.list_keys() == ["magic-link:x"]
