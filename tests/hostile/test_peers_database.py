"""Django beside the real Better Auth by its tables, which its own migration makes."""

import asyncio
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.test import override_settings

from ..better_auth import VERSIONS, BetterAuth, install
from ..servers import Server
from ..services import require
from ..test_peers_better_auth import PAGES, credentials, end, name, peer_site
from .databases import ALIAS, MARIADB, POSTGRESQL, Database, Kind, disconnect
from .databases import require as require_database

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[POSTGRESQL, MARIADB], ids=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, django_db_blocker: Any) -> Iterator[Database]:
    """An empty one that Better Auth and Django can reach."""
    require(install)
    kind: Kind = request.param
    require_database(kind)
    with django_db_blocker.unblock(), Database(kind) as database:
        yield database


@pytest.fixture(params=VERSIONS)
def beside(
    request: pytest.FixtureRequest,
    database: Database,
    prefix: str,
    runner: asyncio.Runner | None,
) -> Iterator[tuple[BetterAuth, dict[str, Any]]]:
    """A service with all that it has in a database, which Django has as well; and the peer."""
    name = "b" + hashlib.sha256(prefix.encode()).hexdigest()[:16]
    with database.connected() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    is_postgresql = database.kind is POSTGRESQL
    settings = database.kind.settings
    host, user = settings["HOST"].format(folder=database.folder), settings["USER"]
    pool = {"user": user, "database": name, "host" if is_postgresql else "socketPath": host}
    # Other names than Better Auth's own.
    options = {
        "session": {"modelName": "logins", "fields": {"userId": "user_id"}},
        "postgresql" if is_postgresql else "mariadb": pool,
    }
    tables = {"session": {"TABLE": "logins", "userId": "user_id"}}
    with (
        BetterAuth(request.param, None, "", **options) as service,
        database.connected(NAME=name),
    ):
        # Users are in no database of the site's.
        user = "tests.peer_site.stranger_for"
        yield service, {"ALIAS": ALIAS, "TABLES": tables, "USER": user}
        if runner:
            # The thread in which Django runs queries has a connection of its own.
            runner.run(sync_to_async(disconnect)())


@pytest.mark.parametrize("way", ["sign-out", "revoke", "password", "ban"])
def test_a_database_is_a_way_too(
    beside: tuple[BetterAuth, dict[str, Any]],
    one_server: Server,
    prefix: str,
    runner: asyncio.Runner | None,
    way: str,
) -> None:
    """Through tables that Better Auth made itself; what ends there ends here."""
    service, peer = beside
    for site in peer_site(service, one_server, prefix, runner, "database", **peer):
        both = [service.sign_up(name(prefix)), service.sign_in(name(prefix))]
        sent = [credentials(service, one, "database") for one in both]
        for page in PAGES:
            found = site.get(page, **sent[0]).json()
            assert found["user"] == both[0].body["user"]["id"], page
            assert found["session_id"]
        assert site.get("/who", **sent[1]).json()["user"]
        end(service, way, both[0], name(f"admin-{prefix}"))
        ended = {"sign-out": sent[:1], "password": sent[1:]}.get(way, sent)
        assert [site.get("/who", **one).json()["user"] for one in ended] == [""] * len(ended)


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Chicago"])
def test_times_are_what_they_are_wherever_the_site_is(
    beside: tuple[BetterAuth, dict[str, Any]],
    one_server: Server,
    prefix: str,
    runner: asyncio.Runner | None,
    zone: str,
) -> None:
    """Without USE_TZ too, where Django takes the zone from what has one."""
    service, peer = beside
    signed_up = service.sign_up(name(prefix))
    sent = credentials(service, signed_up, "database")
    connections[ALIAS].close()
    for site in peer_site(service, one_server, prefix, runner, "database", **peer):
        with override_settings(USE_TZ=False, TIME_ZONE=zone):
            for hours, is_alive in ((1, True), (-1, False)):
                ends_at = datetime.now(UTC) + timedelta(hours=hours)
                move_end(ends_at)
                assert bool(site.get("/who", **sent).json()["user"]) is is_alive, hours


def move_end(ends_at: datetime) -> None:
    """Have all sessions end then."""
    with connections[ALIAS].cursor() as cursor:
        quoted = connections[ALIAS].ops.quote_name("expiresAt")
        is_postgresql = connections[ALIAS].vendor == "postgresql"
        when = ends_at if is_postgresql else ends_at.replace(tzinfo=None)
        cursor.execute(f"UPDATE logins SET {quoted} = %s", [when])
