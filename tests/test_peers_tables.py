"""Peers whose sessions are rows: the tables of Better Auth, as its own migration makes them."""

import asyncio
from collections.abc import Iterator
from typing import Any, Self

import pytest
from django.db import connection

from .peer_site import MIDDLEWARE
from .site import Site
from .test_peers import COOKIE, NOBODY, SECRET, TOKEN, USER_ID, iso, signed

pytestmark = pytest.mark.django_db(transaction=True)

# The types are those of SQLite's; other databases are in tests/test_peers_better_auth.py.
SESSION = """CREATE TABLE {table} ("id" text not null primary key, {expires_at} date not null,
"token" text not null unique, "createdAt" date not null, "updatedAt" date not null,
"ipAddress" text, "userAgent" text, {user_id} text not null)"""
USER = """CREATE TABLE {table} ("id" text not null primary key, "name" text not null,
"email" text not null unique, "banned" integer, "banExpires" date)"""


class Tables:
    """The tables of a peer, under whatever names."""

    def __init__(self, session: str = "session", user: str = "user", **columns: str) -> None:
        self.session, self.user = session, user
        self.columns = {"expires_at": "expiresAt", "user_id": "userId", **columns}

    def __enter__(self) -> Self:
        quoted = {name: f'"{column}"' for name, column in self.columns.items()}
        with connection.cursor() as cursor:
            cursor.execute(SESSION.format(table=f'"{self.session}"', **quoted))
            cursor.execute(USER.format(table=f'"{self.user}"'))
        return self

    def __exit__(self, *_: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f'DROP TABLE "{self.session}"')
            cursor.execute(f'DROP TABLE IF EXISTS "{self.user}"')

    def insert(self, table: str, **row: Any) -> None:
        names = ", ".join(f'"{name}"' for name in row)
        marks = ", ".join(["%s"] * len(row))
        with connection.cursor() as cursor:
            cursor.execute(f'DELETE FROM "{table}"')
            cursor.execute(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', list(row.values()))

    def sign_in(self, session: dict[str, Any] | None = None, **user: Any) -> None:
        whole = {
            "id": "s",
            "token": TOKEN,
            self.columns["expires_at"]: iso(days=7),
            "createdAt": iso(days=-1),
            "updatedAt": iso(days=-1),
            "ipAddress": "",
            "userAgent": "golden/1.0",
            self.columns["user_id"]: USER_ID,
            **(session or {}),
        }
        self.insert(self.session, **whole)
        ada = {"id": USER_ID, "name": "Ada", "email": "ada@example.com", "banned": 0, **user}
        self.insert(self.user, **ada)


class TableSite(Site):
    def peer(self, **peer: Any) -> None:
        user = "auser_for" if self.runner else "user_for"
        common = {"STACK": "better-auth", "VIA": "database", "SECRET": SECRET}
        self.base["PEERS"] = {"sql": {**common, "USER": f"tests.peer_site.{user}", **peer}}
        self.configure()

    def who(self, value: str) -> str:
        reply = self.get("/who", cookie=f"{COOKIE}={value}")
        assert reply.status_code == 200, reply.content
        return str(reply.json()["user"])


@pytest.fixture
def site(prefix: str, runner: asyncio.Runner | None) -> Iterator[TableSite]:
    settings = {"ROOT_URLCONF": "tests.peer_site", "MIDDLEWARE": MIDDLEWARE}
    site = TableSite("memory://", prefix, runner, **settings)
    site.peer()
    yield site
    site.close()


def test_a_row_is_a_session(site: TableSite) -> None:
    """Two queries, and none for a signature that is wrong."""
    with Tables() as tables:
        tables.sign_in()
        found = site.get("/who", cookie=f"{COOKIE}={signed()}").json()
        assert found == {"user": USER_ID, "peer": "sql", "user_id": USER_ID, "session_id": "s"}
        assert site.who(signed(secret=SECRET[::-1])) == NOBODY
        assert site.who(signed("x" * 32)) == NOBODY
        if site.runner is None:
            with connection.execute_wrapper(refuse):
                assert site.who(signed(secret=SECRET[::-1])) == NOBODY


def refuse(execute: Any, sql: str, *args: Any) -> Any:
    raise AssertionError(sql)


@pytest.mark.parametrize(
    ("session", "user"),
    [
        ({"expiresAt": iso(seconds=-1)}, {}),
        ({"expiresAt": "soon"}, {}),
        ({"token": TOKEN.swapcase()}, {}),
        ({"userId": "another"}, {}),
        ({}, {"id": "another"}),
        ({}, {"banned": 1}),
        ({}, {"banned": 1, "banExpires": iso(days=1)}),
    ],
)
def test_a_row_that_does_not_count_is_nobody_s(
    site: TableSite, session: dict[str, Any], user: dict[str, Any]
) -> None:
    """As with records: PEER-09, PEER-12."""
    with Tables() as tables:
        tables.sign_in(session, **user)
        assert site.who(signed()) == NOBODY


def test_tables_and_columns_may_have_other_names(site: TableSite) -> None:
    """As a site has told Better Auth."""
    names = {
        "session": {"TABLE": "sessions", "userId": "user_id", "expiresAt": "expires at"},
        "user": {"TABLE": "people"},
    }
    with Tables("sessions", "people", user_id="user_id", expires_at="expires at") as tables:
        tables.sign_in()
        site.peer(TABLES=names)
        assert site.who(signed()) == USER_ID


def test_tables_that_are_not_there(site: TableSite) -> None:
    """An outage, as ON_ERROR says; and never an error of the page's."""
    assert site.who(signed()) == NOBODY
    site.peer(ON_ERROR="deny")
    for page in ("/who", "/awho", "/rest", "/api/who", "/api/awho"):
        assert site.get(page, cookie=f"{COOKIE}={signed()}").status_code == 503
    assert site.who("x") == NOBODY
