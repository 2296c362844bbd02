"""Sessions of a real database are taken over by twenty requests at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore as Before
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.test import override_settings

from rustauth_django.sessions import SessionStore, list_sessions, revoke_sessions

from ..servers import PATIENT, Server
from ..test_sessions import ENGINE
from .databases import ALIAS, MARIADB, POSTGRESQL, Database, Kind, disconnect, require

REQUESTS = 20
ROUNDS = 25


@pytest.fixture(scope="module", params=[POSTGRESQL, MARIADB], ids=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, django_db_blocker: Any) -> Iterator[Database]:
    """One with Django's tables."""
    kind: Kind = request.param
    require(kind)
    with django_db_blocker.unblock(), Database(kind) as database:
        with database.connected() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE sessions")
        with database.connected(NAME="sessions"):
            call_command("migrate", database=ALIAS, verbosity=0)
        yield database


@pytest.fixture
def site(database: Database, one_server: Server, prefix: str) -> Iterator[None]:
    """A site that had its sessions in the database, and moves in."""
    rustauth = {
        "URL": one_server.url,
        "KEY_PREFIX": prefix,
        "CLIENT_OPTIONS": PATIENT,
        "SESSIONS": {"ADOPT": "django.contrib.sessions.backends.db"},
    }
    routers = ["tests.hostile.test_spellings.Router"]
    with (
        database.connected(NAME="sessions"),
        override_settings(**ENGINE, RUSTAUTH=rustauth, DATABASE_ROUTERS=routers),
    ):
        yield


def visit(key: str, together: Barrier) -> tuple[Any, str | None]:
    """A request with the old key."""
    together.wait()
    try:
        session = SessionStore(key)
        return session.get("cart"), session.session_key
    finally:
        disconnect()


@pytest.mark.slow
def test_nobody_is_signed_out(site: None) -> None:
    """All requests of a page see the content and get one new key, round after round."""
    with ThreadPoolExecutor(REQUESTS) as pool:
        for number in range(ROUNDS):
            before = Before()
            before.update({SESSION_KEY: str(number), "cart": [number]})
            before.save()
            key, together = before.session_key, Barrier(REQUESTS)
            found = list(pool.map(lambda _, k=key, t=together: visit(k, t), range(REQUESTS)))
            assert {str(cart) for cart, _ in found} == {f"[{number}]"}
            assert len({new for _, new in found}) == 1
            user = User(pk=number)
            assert len(list_sessions(user)) == 1
            assert not Session.objects.filter(session_key=key).exists()
            assert revoke_sessions(user) == 1
            assert SessionStore(key).load() == {}


@pytest.mark.slow
def test_a_key_fits_into_the_tables_of_others(site: None) -> None:
    """Forty characters, as django-allauth's usersessions has them; databases refuse more."""
    session = SessionStore()
    session["cart"] = [1]
    session.save()
    later = datetime.now(UTC) + timedelta(days=1)
    Session.objects.create(session_key=session.session_key, session_data="", expire_date=later)
    assert Session.objects.get(session_key=session.session_key)
