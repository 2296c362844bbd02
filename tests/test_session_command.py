"""``rustauth_sessions``: who is signed in, and how an operator ends it."""

import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import override_settings

from rustauth_django import RustAuthStores
from rustauth_django.connections import use
from rustauth_django.engine.backends import Backend
from rustauth_django.engine.plans import drive
from rustauth_django.sessions.operations import EndSessions
from rustauth_django.signals import sessions_revoked

from .people import sessions_of
from .servers import Server
from .test_sessions import FIREFOX, begin, record_of


@pytest.fixture
def site(one_server: Server, prefix: str, db: None) -> Iterator[RustAuthStores]:
    """Two sessions of user 7, one of user 8, one of a visitor, and something else."""
    settings = {"URL": one_server.url, "KEY_PREFIX": prefix, "SCAN_COUNT": 1000}
    with (
        override_settings(RUSTAUTH=settings),
        RustAuthStores.from_url(one_server.url, key_prefix=prefix) as stores,
    ):
        stores.secondary_storage.set("magic-link:x", "1", 60)
        for token, user_id in (("a" * 32, "7"), ("b" * 32, "7"), ("c" * 32, "8"), ("d" * 32, "")):
            assert drive(begin(sessions_of(stores), record_of(token, user_id)), stores.backend.run)
        yield stores


def run(*args: str) -> str:
    out = StringIO()
    call_command("rustauth_sessions", *args, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_a_user_s_sessions_are_listed(site: RustAuthStores) -> None:
    """A line each, or JSON; and no token."""
    lines = [line.split("\t") for line in run("list", "--user", "pk=7").splitlines()]
    assert [line[1] for line in lines] == ["7", "7"]
    assert all(len(line) == 6 for line in lines)
    found = json.loads(run("list", "--user", "pk=7", "--format", "json"))
    assert list(found[0]) == ["id", "user", "created_at", "last_seen", "ip_address", "device"]
    assert "a" * 32 not in run("list", "--user", "pk=7")
    for nobody in ("nobody", "7", "9" * 40, "nobody@example.com"):
        with pytest.raises(CommandError, match="There is no user"):
            run("list", "--user", nobody)


def test_everybody_s_sessions_are_listed(site: RustAuthStores) -> None:
    """As they are found, without those of visitors."""
    found = json.loads(run("list", "--all", "--format", "json"))
    assert sorted(one["user"] for one in found) == ["7", "7", "8"]


def test_a_user_s_sessions_are_revoked(site: RustAuthStores) -> None:
    """And nobody else's; it says how many there were."""
    assert run("revoke", "--user", "pk=7") == "Revoked 2 sessions of user 7.\n"
    assert run("revoke", "--user", "pk=7") == "Revoked 0 sessions of user 7.\n"
    assert run("revoke", "--user", "pk=8") == "Revoked 1 session of user 8.\n"
    assert sorted(site.secondary_storage.list_keys()) == ["magic-link:x", f"session:{'d' * 32}"]


def test_everybody_is_signed_out(site: RustAuthStores) -> None:
    """Visitors as well; whatever else is stored stays."""
    assert run("revoke", "--all") == "Revoked 4 sessions of everybody.\n"
    assert site.secondary_storage.list_keys() == ["magic-link:x"]


class Late(Backend):
    """A server where somebody signs in each time that something is removed."""

    def __init__(self, stores: RustAuthStores) -> None:
        self.location = stores.backend.location
        self._stores, self._tokens = stores, iter("0123456789")

    def run(self, operation: Any) -> Any:
        answer = self._stores.backend.run(operation)
        if isinstance(operation, EndSessions):
            record = record_of(next(self._tokens) * 32, "7")
            drive(begin(sessions_of(self._stores), record), self._stores.backend.run)
        return answer

    async def arun(self, operation: Any) -> Any:
        return self.run(operation)

    def close(self) -> None:
        """The stores are the fixture's."""

    async def aclose(self) -> None:
        """The stores are the fixture's."""


def test_who_signs_in_meanwhile_stays_listed(site: RustAuthStores) -> None:
    """Whatever is live after it can be listed, and so revoked."""
    with use(Late(site)):
        assert int(run("revoke", "--all").split()[1]) >= 4
    listed = {one.record.token for one in drive(sessions_of(site).of_user("7"), site.backend.run)}
    live = {key for key in site.secondary_storage.list_keys() if "user" not in key}
    assert live - {"magic-link:x"} == {f"session:{token}" for token in listed}
    assert listed


def test_a_known_user_is_told_of(site: RustAuthStores) -> None:
    """Receivers of sessions_revoked have the user."""
    user = User.objects.create_user("ada")
    record = record_of("e" * 32, str(user.pk))
    assert drive(begin(sessions_of(site), record), site.backend.run)
    told: list[Any] = []

    def note(*, user: Any, **named: Any) -> None:
        told.append(user)

    sessions_revoked.connect(note)
    try:
        assert run("revoke", "--user", str(user.pk)).startswith("Revoked 1 session")
    finally:
        sessions_revoked.disconnect(note)
    assert told == [user]


def test_wrong_arguments_are_one_line(site: RustAuthStores) -> None:
    """What to do, and to whom."""
    for args in (["list"], ["revoke"], ["list", "--user", "pk=7", "--all"], ["end", "--all"]):
        with pytest.raises(CommandError):
            run(*args)


def test_a_dead_server_is_one_line(dead_url: str) -> None:
    """As of every command."""
    with override_settings(RUSTAUTH={"URL": dead_url}):
        for action in ("list", "revoke"):
            with pytest.raises(CommandError, match="redis://127.0.0.1:1/0: "):
                run(action, "--all")


def test_odd_agents_move_no_cursor(site: RustAuthStores, one_server: Server) -> None:
    """What a client calls itself is its own invention."""
    record: Any = record_of("f" * 32, "9")
    for agent in ("\x1b[2Jx\ny", FIREFOX):
        drive(begin(sessions_of(site), record._replace(user_agent=agent)), site.backend.run)
        assert "\x1b" not in run("list", "--user", "pk=9")
        assert len(run("list", "--user", "pk=9").splitlines()) == 1


def test_a_user_is_found_by_key_name_or_address(site: RustAuthStores) -> None:
    """Whoever is meant by two of them is not guessed."""
    ada = User.objects.create_user("ada", email="Ada@Example.com", pk=7)
    for text in ("7", "ada", "ada@example.com", "pk=7", "pk=007"):
        assert run("revoke", "--user", text).endswith("of user 7.\n")
    User.objects.create_user("7", email="ada@example.com", pk=12)
    for text in ("7", "ada@example.com"):
        with pytest.raises(CommandError, match="more than one user: write pk=7 or pk=12"):
            run("revoke", "--user", text)
    assert ada


def test_a_walk_finds_what_an_index_has_lost(site: RustAuthStores) -> None:
    """Evicted, or deleted by hand; nobody else's, and each once."""
    User.objects.create_user("ada", pk=7)
    site.secondary_storage.delete("session:user:7")
    assert run("list", "--user", "ada") == ""
    assert run("revoke", "--user", "ada") == "Revoked 0 sessions of user 7.\n"
    assert len(run("list", "--user", "ada", "--walk").splitlines()) == 2
    assert run("revoke", "--user", "ada", "--walk") == "Revoked 2 sessions of user 7.\n"
    assert run("list", "--user", "ada", "--walk") == ""
    assert len(run("list", "--all").splitlines()) == 1
