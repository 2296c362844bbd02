"""Sessions in the hands of slow, parallel and odd requests."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import path

from rustauth_django import secondary_storage
from rustauth_django.engine.records import read_time
from rustauth_django.sessions import SessionStore, list_sessions, revoke_session, revoke_sessions
from rustauth_django.sessions.cookies import sign, unsign
from rustauth_django.sessions.store import user_sessions
from rustauth_django.signals import session_moved, sessions_revoked

from .people import person
from .servers import Server
from .test_session_lifetimes import Heard, Time, configure, heard, time
from .test_session_saving import age
from .test_sessions import (
    ENGINE,
    Store,
    engine,
    hash_of,
    index,
    signed_in,
    store,
    stored,
)

__all__ = ["configure", "engine", "heard", "store", "time"]


class Salted:
    """A serializer that never writes the same bytes twice, as one that encrypts."""

    def dumps(self, obj: Any) -> bytes:
        return os.urandom(8) + json.dumps(obj).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data[8:])


def test_a_slow_page_does_not_undo_an_expiry(store: Store) -> None:
    """Nor a new sign-in: whoever writes later than it has read is not overwritten."""
    session = store(_auth_user_id="1")
    session.save()
    age(session.target.token)
    slow, fast = store(session.target.session_key), store(session.target.session_key)
    for one in (slow, fast):
        assert one.get("_auth_user_id") == "1"
    fast.set_expiry(60)
    fast.save()
    slow.save()
    assert 50 < (secondary_storage.ttl(f"session:{session.target.token}") or 0) <= 60
    assert read_time(stored(session.target.token)["expires_at"]) - datetime.now(UTC) < timedelta(
        minutes=2
    )


def test_a_salted_serializer_changes_nothing(store: Store) -> None:
    """What is equal is no change, though its bytes are others."""
    with override_settings(SESSION_SERIALIZER=f"{__name__}.Salted"):
        session = store(_auth_user_id="1")
        session.save()
        age(session.target.token)
        slow, fast = store(session.target.session_key), store(session.target.session_key)
        assert slow.get("cart") is None
        store.put(fast, "cart", [1])
        fast.save()
        slow.save()
        assert store(session.target.session_key).get("cart") == [1]


@pytest.mark.parametrize("serializer", [f"{__name__}.Salted", None])
def test_what_python_takes_for_equal_is_a_change(store: Store, serializer: str | None) -> None:
    """1 is no True, in no serializer."""
    path = serializer or settings.SESSION_SERIALIZER
    with override_settings(SESSION_SERIALIZER=path):
        session = store(_auth_user_id="1", flag=1)
        session.save()
        again = store(session.target.session_key)
        assert again.get("flag") == 1
        store.put(again, "flag", True)
        again.save()
        assert store(session.target.session_key).get("flag") is True


def test_a_refresh_by_rustauth_does_not_hide_a_visit(store: Store) -> None:
    """RA-03: what Django adds is prolonged by Django's visits, however fresh the record is."""
    session = store(_auth_user_id="1")
    session.save()
    token = session.target.token
    record = secondary_storage.get(f"session:{token}") or ""
    age(token)
    secondary_storage.set(f"session:{token}", record, 999)
    again = store(session.target.session_key)
    again.load()
    assert again.target.modified
    again.save()
    assert abs(int((hash_of(token) or {})["seen_at"]) / 1000 - datetime.now(UTC).timestamp()) < 60


def test_the_oldest_login_ends_not_the_first_in_the_list(
    configure: Any, store: Store, time: Time, heard: Heard
) -> None:
    """And a session that puts itself back into a lost list ends nobody."""
    configure(MAX_PER_USER=2)
    time.go_on(0)
    first = store(_auth_user_id="1", name="first")
    first.save()
    secondary_storage.delete("session:user:1")
    for name in ("second", "third"):
        time.go_on(10)
        session = store(_auth_user_id="1", name=name)
        session.save()
    age(first.target.token)
    first = store(first.target.session_key)
    first.get("name")
    first.save()
    assert len(index()) == 3
    time.go_on(10)
    last = store(_auth_user_id="1", name="last")
    last.save()
    assert [stored(token) is not None for token in index()] == [True, True]
    found = {store(sign(token)).get("name") for token in index()}
    assert found == {"third", "last"}


def test_one_move_is_told_once(engine: Any, store: Store, heard: Heard) -> None:
    """Though several requests at once come from there; and without a user nobody is told."""
    session = store(_auth_user_id="1")
    session.save()
    visits = []
    for _ in range(3):
        request = RequestFactory(headers={"user-agent": "a"}).get("/", REMOTE_ADDR="192.0.2.1")
        one = SessionStore(session.target.session_key)
        one.get("x")
        one.visited_by(request)
        visits.append(one)
    visits[0].save()
    for address, user in (("192.0.2.2", person(1)), ("192.0.2.3", None)):
        visits = []
        for _ in range(3):
            request = RequestFactory(headers={"user-agent": "a"}).get("/", REMOTE_ADDR=address)
            if user is not None:
                request.user = user
            one = SessionStore(session.target.session_key)
            one.get("x")
            one.visited_by(request)
            assert one.modified
            visits.append(one)
        for one in visits:
            one.save()
    (moved,) = heard.moved
    assert moved["session"].last_ip_address == "192.0.2.2"
    assert moved["sender"] is type(person(1))


def test_creating_again_makes_another_session(store: Store) -> None:
    """An id names one session, always."""
    session = store(x=1)
    session.save()
    before = session.target.session_key, session.target.id
    session.create()
    assert session.target.session_key != before[0]
    assert session.target.id != before[1]
    assert store(before[0]).get("x") == 1


def test_nobody_ends_the_session_of_another_user(store: Store) -> None:
    """SESS-19: not even if a list has its token."""
    session = store(_auth_user_id="2")
    session.save()
    secondary_storage.set("session:user:1", json.dumps([session.target.token]), 60)
    assert revoke_sessions(person(1)) == 0
    assert store(session.target.session_key).get("_auth_user_id") == "2"


@pytest.mark.parametrize("outage", [("maxmemory", "1"), ("min-replicas-to-write", "3")])
def test_sessions_are_listed_while_nothing_can_be_written(
    outage: tuple[str, str], prefix: str
) -> None:
    """Tokens that have no session stay in the list for that time."""
    with (
        Server("redis-6.2") as own,
        redis.Redis.from_url(own.plain_url) as raw,
        override_settings(**ENGINE, RUSTAUTH={"URL": own.plain_url, "KEY_PREFIX": prefix}),
    ):
        signed_in(person(1))
        secondary_storage.delete(f"session:{signed_in(person(1))}")
        raw.config_set(*outage)
        assert len(list_sessions(person(1))) == 1


def test_an_old_signature_is_renewed(store: Store) -> None:
    """With the next response, before its secret is gone."""
    session = store(cart=[1])
    session.save()
    old = session.target.session_key
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
        if user_sessions() and store(old).get("cart") is None:
            return  # memory, which is new with new settings
        again = store(old)
        assert again.get("cart") == [1]
        assert again.target.modified
        assert again.target.session_key != old
        assert unsign(again.target.session_key) == session.target.token


def look(request: HttpRequest) -> HttpResponse:
    return HttpResponse(get_user(request).get_username())


urlpatterns = [path("look", look)]


@pytest.mark.django_db(transaction=True)
class TestReceivers:
    """What receivers do to the session that they are told of."""

    @pytest.fixture(autouse=True)
    def site(self, one_server: Server, prefix: str) -> Any:
        rustauth = {"URL": one_server.url, "KEY_PREFIX": prefix}
        with override_settings(**ENGINE, RUSTAUTH=rustauth, ROOT_URLCONF=__name__):
            yield

    def test_a_receiver_may_end_the_session(self) -> None:
        """Then the visitor goes on as nobody, and the cookie is that of an empty session."""
        user = User.objects.create_user("ada")
        client = Client()
        client.force_login(user)

        def end(*, user: Any, session: Any, **named: Any) -> None:
            assert revoke_session(user, session.id)

        session_moved.connect(end)
        try:
            client.get("/look")
            response = client.get("/look", REMOTE_ADDR="192.0.2.7")
            assert response.content == b"ada"
            assert unsign(response.cookies["sessionid"].value)
            assert client.get("/look").content == b""
        finally:
            session_moved.disconnect(end)
        assert list_sessions(user) == []

    def test_who_was_deleted_is_named(self) -> None:
        """By the primary key that the user had, in a transaction too."""
        user = User.objects.create_user("ada")
        signed_in(user)
        pk, told = user.pk, []

        def note(*, user: Any, **named: Any) -> None:
            told.append((user.pk, named["reason"], named["sender"]))

        sessions_revoked.connect(note)
        try:
            with transaction.atomic():
                user.delete()
        finally:
            sessions_revoked.disconnect(note)
        assert told == [(pk, "user_deleted", User)]

    def test_a_command_needs_a_user(self) -> None:
        """An empty text is nobody's address."""
        User.objects.create_user("ada", email="")
        for text in ("", " ", "pk="):
            with pytest.raises(CommandError):
                call_command("rustauth_sessions", "revoke", "--user", text)


def test_a_site_without_users_can_start() -> None:
    """The middleware asks for no authentication backend that cannot be imported there."""
    code = (
        "import django; from django.conf import settings;"
        "settings.configure(INSTALLED_APPS=['rustauth_django'], SECRET_KEY='x', DATABASES={},"
        "MIDDLEWARE=['rustauth_django.middleware.RateLimitMiddleware'], ROOT_URLCONF='x');"
        "django.setup();"
        "from rustauth_django.middleware import RateLimitMiddleware;"
        "RateLimitMiddleware(lambda request: None); print('started')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "started\n", done.stderr
