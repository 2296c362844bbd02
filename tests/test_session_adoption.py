"""Moving in: sessions of another engine are taken over, and nobody is signed out."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.backends.file import SessionStore as FileStore
from django.core.cache import cache
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path

from rustauth_django import secondary_storage
from rustauth_django.connections import run
from rustauth_django.engine.keyspace import pages
from rustauth_django.engine.operations import TimeToLive
from rustauth_django.engine.plans import Call
from rustauth_django.sessions import SessionStore, list_sessions, revoke_sessions
from rustauth_django.sessions.adopting import Adoption
from rustauth_django.sessions.cookies import unsign
from rustauth_django.sessions.operations import WriteSession
from rustauth_django.sessions.store import user_sessions

from .people import PASSWORD
from .servers import Server
from .site import Site
from .test_sessions import ENGINE, Store, stored

BACKENDS = "django.contrib.sessions.backends"
ENGINES = ["db", "cached_db", "cache", "file", "signed_cookies"]

pytestmark = pytest.mark.django_db(transaction=True)


def who(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"name": request.user.get_username(), "cart": request.session.get("cart")})


def fail(request: HttpRequest) -> HttpResponse:
    request.session.get("cart")
    raise ZeroDivisionError


urlpatterns = [path("who", who), path("fail", fail)]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return f"{BACKENDS}.{request.param}"


@pytest.fixture
def store(
    one_server: Server, prefix: str, runner: asyncio.Runner | None, tmp_path: Path, engine: str
) -> Iterator[Store]:
    """This app's engine, on a site that had another one."""
    with override_settings(SESSION_FILE_PATH=str(tmp_path)):
        site = Site(one_server.url, prefix, runner, **ENGINE, ROOT_URLCONF=__name__)
        site.base |= {"SESSIONS": {"ADOPT": engine}}
        site.configure(ENABLED=False)
        yield Store(site)
        site.close()
        cache.clear()


def begun(engine: str, **data: Any) -> str:
    """The key of a session that the other engine has."""
    old = import_module(engine).SessionStore()
    old.update(data)
    old.save()
    return old.session_key


def left(engine: str, key: str) -> Any:
    return import_module(engine).SessionStore(key).load()


def pointers() -> list[str]:
    keyspace, backend = secondary_storage.keyspace, secondary_storage.backend
    found = [key for page in pages(backend, [keyspace.for_django().first_page()]) for key in page]
    return [key for key in found if ":adopted:" in key]


def test_a_session_is_taken_over_once(store: Store, engine: str) -> None:
    """With its content and its end; under a new key, and ended where it was."""
    key = begun(engine, **{SESSION_KEY: "7", "cart": [1]})
    session = store(key)
    assert session.get("cart") == [1]
    assert session.target.modified
    session.save()
    token = unsign(session.target.session_key)
    assert token
    assert stored(token)["user_id"] == "7"
    (info,) = list_sessions(User(pk=7))
    age = timedelta(seconds=session.target.get_session_cookie_age())
    assert abs(info.expires_at - datetime.now(UTC) - age) < timedelta(minutes=1)
    if not engine.endswith("signed_cookies"):
        assert left(engine, key) == {}
    again = store(session.target.session_key)
    assert again.get("cart") == [1]
    assert not again.target.modified


def test_a_session_that_was_not_taken_over_yet_exists(store: Store, engine: str) -> None:
    """So that packages with tables of their own keep its row; and they can end it."""
    key = begun(engine, cart=[1])
    assert store().exists(key) is True
    store().delete(key)
    assert store(key).load() == {}
    if not engine.endswith("signed_cookies"):
        assert store().exists(key) is False


def test_requests_with_the_old_key_get_the_same_session(store: Store, engine: str) -> None:
    """One after the other, and changes are kept."""
    key = begun(engine, cart=[1])
    first = store(key)
    first.get("cart")
    store.put(first, "cart", [2])
    first.save()
    late = store(key)
    assert late.get("cart") == [2]
    assert late.target.session_key == first.target.session_key
    assert len(pointers()) == 1


def test_a_session_that_was_ended_is_not_taken_over_again(store: Store, engine: str) -> None:
    """By sign-out or revocation; though a signed cookie stays good where it came from."""
    key = begun(engine, **{SESSION_KEY: "7"})
    store(key).get("x")
    assert revoke_sessions(User(pk=7)) == 1
    assert store(key).load() == {}
    signed_out = begun(engine, cart=[1])
    session = store(signed_out)
    session.get("x")
    session.flush()
    assert store(signed_out).load() == {}
    unread = begun(engine, cart=[1])
    store(unread).flush()
    assert store(unread).load() == {}


def test_what_is_no_session_there_is_none_here(store: Store, engine: str) -> None:
    """And leaves nothing on the server, nor in the other engine."""
    keys = ["a" * 32, "ä" * 32, "x" * 5000, "short", "a:b:c", "..%2f..%2fetc", "a/../../b" * 3]
    for key in keys:
        session = store(key)
        assert session.load() == {}
        assert session.target.session_key is None
        assert store().exists(key) is False
    assert secondary_storage.list_keys() == []
    assert pointers() == []


def test_a_view_that_replaces_everything_needs_no_read(store: Store, engine: str) -> None:
    """``clear`` reads nothing; the session is taken over when it is saved."""
    key = begun(engine, cart=[1])
    session = store(key)
    session.target.clear()
    store.put(session, "note", "x")
    session.save()
    assert store(session.target.session_key).load() == {"note": "x"}
    gone = store("b" * 32)
    gone.target.clear()
    with pytest.raises(UpdateError):
        gone.save()


def test_twenty_parallel_requests_sign_nobody_out(store: Store, engine: str) -> None:
    """Of one page, with the old key each."""
    if store.runner is not None or engine.endswith(("db", "cached_db")):
        pytest.skip("threads, on engines that share nothing with the database of the test")
    key = begun(engine, **{SESSION_KEY: "7", "cart": [1]})

    def visit(_: int) -> tuple[Any, Any]:
        session = SessionStore(key)
        return session.get("cart"), session.session_key

    with ThreadPoolExecutor(20) as pool:
        found = set(map(repr, pool.map(visit, range(20))))
    assert len(found) == 1
    assert "[1]" in found.pop()
    assert len(list_sessions(User(pk=7))) == 1


@pytest.mark.parametrize("engine", [f"{BACKENDS}.db"])
def test_parallel_requests_of_a_database_engine(store: Store, engine: str) -> None:
    """Whoever comes between two steps of another one gets the same session."""
    key = begun(engine, **{SESSION_KEY: "7", "cart": [1]})
    found = []

    class Slow(import_module(engine).SessionStore):  # type: ignore[misc]
        def load(self) -> Any:
            data = super().load()
            if not found:
                found.append(data)
                found.append({"cart": SessionStore(key).get("cart")})
            return data

        async def aload(self) -> Any:
            data = await super().aload()
            if not found:
                found.append(data)
                found.append({"cart": await SessionStore(key).aget("cart")})
            return data

    # Django salts the content of a session with the name of its class.
    Slow.__qualname__ = "SessionStore"
    module = import_module("tests.slow_engine")
    module.SessionStore = Slow
    with override_settings(
        RUSTAUTH={**settings.RUSTAUTH, "SESSIONS": {"ADOPT": "tests.slow_engine"}}
    ):
        session = store(key)
        assert session.get("cart") == [1]
    assert [one["cart"] for one in found] == [[1], [1]]
    assert len(list_sessions(User(pk=7))) == 1


@pytest.mark.parametrize("engine", [f"{BACKENDS}.db", f"{BACKENDS}.cached_db"])
def test_the_end_of_a_row_is_that_of_the_session(store: Store, engine: str) -> None:
    """Not prolonged by the move; and a row that has expired is no session."""
    key = begun(engine, **{SESSION_KEY: "7"})
    model = import_module(engine).SessionStore.get_model_class()
    ends = datetime.now(UTC) + timedelta(hours=3)
    model.objects.filter(session_key=key).update(expire_date=ends)
    session = store(key)
    session.get("x")
    session.save()
    (info,) = list_sessions(User(pk=7))
    assert info.expires_at == ends
    expired = begun(engine, cart=[1])
    model.objects.filter(session_key=expired).update(expire_date=datetime.now(UTC))
    cache.clear()
    assert store(expired).load() == {}


@pytest.mark.parametrize("engine", [f"{BACKENDS}.signed_cookies"])
def test_a_signed_cookie_has_its_own_end(
    store: Store, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of its signature; and the pointer stays as long."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 13 * 86_400)
    key = begun(engine, **{SESSION_KEY: "7"})
    monkeypatch.undo()
    session = store(key)
    session.get("x")
    session.save()
    (info,) = list_sessions(User(pk=7))
    assert timedelta(hours=23) < info.expires_at - datetime.now(UTC) < timedelta(hours=25)


@pytest.mark.parametrize("engine", [f"{BACKENDS}.db"])
def test_a_site_moves_and_nobody_notices(engine: str, one_server: Server, prefix: str) -> None:
    """With Django's middleware; also after a view that failed, whose response has no cookie."""
    user = User.objects.create_user("ada", password=PASSWORD)
    client = Client(raise_request_exception=False)
    with override_settings(SESSION_ENGINE=engine, ROOT_URLCONF=__name__):
        client.force_login(user)
    rustauth = {"URL": one_server.url, "KEY_PREFIX": prefix, "SESSIONS": {"ADOPT": engine}}
    old = client.cookies["sessionid"].value
    with override_settings(**ENGINE, RUSTAUTH=rustauth, ROOT_URLCONF=__name__):
        assert client.get("/fail").status_code == 500
        assert client.cookies["sessionid"].value == old
        assert client.get("/who").json()["name"] == "ada"
        new = client.cookies["sessionid"].value
        assert unsign(new)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert client.get("/who").json()["name"] == "ada"
        assert not [query for query in queries if "django_session" in query["sql"]]
        client.cookies["sessionid"] = old
        assert client.get("/who").json()["name"] == "ada"
        client.logout()
        client.cookies["sessionid"] = old
        assert client.get("/who").json()["name"] == ""
    assert left(engine, old) == {}


@pytest.mark.parametrize("engine", [f"{BACKENDS}.signed_cookies"])
def test_the_pointer_of_a_cookie_lives_as_long_as_the_cookie(store: Store, engine: str) -> None:
    """However short the session is."""
    with override_settings(
        RUSTAUTH={**settings.RUSTAUTH, "SESSIONS": {"ADOPT": engine, "IDLE_AGE": 60}}
    ):
        key = begun(engine, **{SESSION_KEY: "7"})
        for _ in range(2):
            assert store(key).get(SESSION_KEY) == "7"
        (pointer,) = pointers()
        left = secondary_storage.backend.run(TimeToLive(pointer))
        assert (left or 0) > 13 * 86_400_000


def test_a_slow_request_revives_nothing(store: Store, engine: str) -> None:
    """It has read the old session; another one takes it over, and somebody ends it."""
    if store.runner is not None:
        pytest.skip("plans are the same in both faces")
    key = begun(engine, **{SESSION_KEY: "7"})
    slow = SessionStore(key)
    plan, answer = slow._finding(), None
    while True:
        step = plan.send(answer)
        if isinstance(step, WriteSession):
            break
        answer = step.run() if isinstance(step, Call) else secondary_storage.backend.run(step)
    assert store(key).get(SESSION_KEY) == "7"
    assert revoke_sessions(User(pk=7)) == 1
    try:
        while True:
            answer = step.run() if isinstance(step, Call) else secondary_storage.backend.run(step)
            step = plan.send(answer)
    except StopIteration as end:
        found = end.value
    assert found is None
    assert store(key).load() == {}
    assert list_sessions(User(pk=7)) == []


@pytest.mark.parametrize("engine", [f"{BACKENDS}.file"])
def test_a_file_that_goes_between_two_looks_is_no_session(store: Store, engine: str) -> None:
    """Another request has taken it over, and removed it."""

    class Going(FileStore):
        def exists(self, session_key: str) -> bool:
            return True

    adoption = Adoption(Going, secondary_storage.keyspace)
    assert run(adoption.is_there(user_sessions(), "a" * 32)) is False
