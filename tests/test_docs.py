"""The documents say what is there, all of it."""

import ast
import inspect
import re
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
import redis
from django.core.management import load_command_class

import rustauth_django
from rustauth_django import RateLimitRule, RustAuthStores, signals, verification
from rustauth_django.conf import (
    AUDIT_DEFAULTS,
    DEFAULTS,
    LOGIN_DEFAULTS,
    RATE_LIMIT_DEFAULTS,
    SESSIONS_DEFAULTS,
)
from rustauth_django.conf.peers import PEER_DEFAULTS
from rustauth_django.contrib import peers
from rustauth_django.decorators import rate_limit
from rustauth_django.engine.operations import Describe
from rustauth_django.engine.plans import drive
from rustauth_django.limits.operations import Attempt, Ending, ReadFields, Settle
from rustauth_django.limits.rates import ALGORITHM_NAMES
from rustauth_django.limits.rules import RESET_VIEWS, SIGN_IN_VIEWS
from rustauth_django.sessions.records import DjangoPart, SessionRecord

from .people import sessions_of
from .servers import EACH_SERVER, Server

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCS = {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")}
COMMANDS = [path.stem for path in (ROOT / "rustauth_django/management/commands").glob("rust*.py")]


@pytest.mark.parametrize(
    "name", [*DEFAULTS, *RATE_LIMIT_DEFAULTS, *SESSIONS_DEFAULTS, *AUDIT_DEFAULTS]
)
def test_every_setting_has_a_paragraph(name: str) -> None:
    """In docs/settings.md under a heading, and a line in the README."""
    headings = [line for line in DOCS["settings.md"].splitlines() if line.startswith("#")]
    assert any(re.search(rf"\b{name}\b", heading) for heading in headings)
    assert f'"{name}"' in README


def test_the_readme_has_the_defaults() -> None:
    """The dictionary shown is the one that holds without any setting."""
    code = README.partition("## Settings")[2].partition("```python\nRUSTAUTH = ")[2]
    shown = ast.literal_eval(code.partition("```")[0])
    limits = {**RATE_LIMIT_DEFAULTS, "LOGIN": LOGIN_DEFAULTS}
    assert shown == {**DEFAULTS, "RATE_LIMIT": limits, "SESSIONS": SESSIONS_DEFAULTS}
    assert list(shown) == list(DEFAULTS)


def test_every_setting_of_a_peer_is_in_the_table() -> None:
    """For each ``VIA``, a line with its column filled."""
    section = DOCS["peers.md"].partition("## All settings")[2]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines()]
    ways = list(PEER_DEFAULTS)
    for number, way in enumerate(ways):
        found = {line[0].strip("`") for line in lines if len(line) > 2 and line[1 + number]}
        assert set(PEER_DEFAULTS[way]) == found - {"setting", "---"}


def test_every_public_name_of_peers_is_documented() -> None:
    """With what it does."""
    for name in (*peers.__all__, "PeerAuthentication", "peer_auth", "apeer_auth"):
        assert name in DOCS["peers.md"]
    for field in fields(peers.PeerSession):
        assert f"`{field.name}`" in DOCS["peers.md"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    """In docs/commands.md."""
    section = DOCS["commands.md"].partition(f"## `{name}`")[2].partition("\n## ")[0]
    assert section
    parser = load_command_class("rustauth_django", name).create_parser("manage.py", name)
    common = load_command_class("django.core", "check").create_parser("manage.py", "check")
    usual = {option for action in common._actions for option in action.option_strings}
    for action in parser._actions:
        if action.option_strings and not usual & set(action.option_strings):
            assert action.option_strings[0] in section


def test_every_check_is_documented() -> None:
    """By its id."""
    source = "".join(path.read_text() for path in (ROOT / "rustauth_django").rglob("*.py"))
    ids = set(re.findall(r'"(?:rustauth_django\.)?([EW]\d{3})"', source))
    assert len(ids) >= 11
    for id in ids:
        assert f"`rustauth_django.{id}`" in DOCS["settings.md"]


@pytest.mark.parametrize("name", [name for name in vars(signals) if name[0] != "_"])
def test_every_signal_is_documented(name: str) -> None:
    """With what it tells."""
    pages = DOCS["rate-limits.md"] + DOCS["sessions.md"] + DOCS["login.md"]
    assert f"`{name}`" in pages or name == "Signal"


def test_every_argument_of_the_decorator_is_documented() -> None:
    """In the table."""
    section = DOCS["rate-limits.md"].partition("## The decorator")[2].partition("\n## ")[0]
    for name in inspect.signature(rate_limit).parameters:
        assert f"| `{name}` |" in section or name == "rates"


def test_every_public_name_is_documented() -> None:
    """Somewhere a reader finds it."""
    everything = README + "".join(DOCS.values())
    for name in rustauth_django.__all__:
        assert re.search(rf"\b{name}\b", everything), name
    for name in ("rate_limit_exempt", "RateLimitMiddleware", "request.rate_limit", *LOGIN_DEFAULTS):
        assert name in everything
    for name in verification.__all__:
        assert f"`{name.removeprefix('a')}" in DOCS["tokens.md"]
    for name in SIGN_IN_VIEWS | RESET_VIEWS:
        assert f"`{name}`" in DOCS["rate-limits.md"]


def test_links_lead_somewhere() -> None:
    """To files that exist and headings that they have."""
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
            if target.startswith("http"):
                continue
            name, _, anchor = target.partition("#")
            linked = path.parent / name if name else path
            assert linked.exists(), f"{path.name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
                assert anchor in [
                    re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")
                    for heading in headings
                ], f"{path.name}: {target}"


@pytest.mark.parametrize("path", sorted((ROOT / "tests").glob("test_*.py")), ids=lambda p: p.name)
def test_tests_say_what_holds(path: Path) -> None:
    """Each in its docstring."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
            "test_"
        ):
            assert ast.get_docstring(node), node.name


@pytest.mark.parametrize("name", EACH_SERVER)
def test_the_documented_user_can_do_its_work(name: str) -> None:
    """Everything the app asks of a server, and not one command more than that."""
    line = DOCS["operations.md"].partition("ACL SETUSER ")[2].partition("\n")[0]
    user, *words = line.replace(">PASSWORD", ">sesame").split()
    with Server(name) as server, redis.Redis.from_url(server.url) as raw:
        known = {word for word in words if _is_known(raw, word)}
        raw.execute_command("ACL", "SETUSER", user, *[word for word in words if word in known])
        url = server.url.replace("redis://", "redis://django:sesame@")
        with RustAuthStores.from_url(url) as stores:
            storage, limits = stores.secondary_storage, stores.rate_limit_store
            storage.set("key", "value", 60)
            storage.set_if_not_exists("key", "value")
            storage.set_if_exists("key", "value", 60)
            assert storage.compare_and_set("key", "value", "new")
            assert storage.get("key") == "new"
            assert storage.ttl("key") is None
            assert storage.list_keys() == ["key"]
            assert storage.delete_if_value("key", "new")
            assert storage.take("key") is None
            storage.delete("key")
            assert limits.consume("key", RateLimitRule(60, 1)).permitted
            assert not limits.consume("key", RateLimitRule(60, 1)).permitted
            assert limits.consume("key", RateLimitRule.parse("5/m")).permitted
            assert stores.backend.run(ReadFields(limits.keyspaces[1].physical("key")))
            for algorithm in ALGORITHM_NAMES:
                escalate = (60,) if algorithm == "lockout" else ()
                limit = [("attempts", RateLimitRule(60, 1, algorithm, escalate=escalate))]  # type: ignore[arg-type]
                for ending in get_args(Ending):
                    operation = limits.attempt(limit, ["attempts"])
                    (counted,) = stores.backend.run(operation)
                    attempt = Attempt(operation.buckets[0], counted.counted_at_ms, ending)
                    assert stores.backend.run(Settle((attempt,))) == 1
                    limits.reset("attempts")
            assert limits.clear() == 2
            sessions, now = sessions_of(stores), datetime.now(UTC)
            record = SessionRecord("id", "7", now + timedelta(1), "a" * 32, None, None, now, now)
            part = DjangoPart(b"{}", now.replace(microsecond=0))
            moved = record._replace(token="b" * 32)
            assert drive(sessions.put(record, part, "NX"), stores.backend.run) == []
            assert drive(sessions.put(record, part, "KEEP"), stores.backend.run) == []
            assert drive(sessions.touch(record, part, part), stores.backend.run)
            assert drive(sessions.move(record, moved, part), stores.backend.run)
            assert drive(sessions.of_user("7"), stores.backend.run) == [(moved, part)]
            assert drive(sessions.remove("b" * 32), stores.backend.run)
            assert storage.clear() == 0
            assert stores.backend.run(Describe()).version
        with redis.Redis.from_url(url) as client:
            for command in (["FLUSHALL"], ["KEYS", "*"], ["CONFIG", "GET", "*"], ["GET", "other"]):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*command)


def _is_known(raw: Any, word: str) -> bool:
    """Servers refuse rules for commands that came after them."""
    try:
        raw.execute_command("ACL", "SETUSER", "probe", word)
    except redis.ResponseError:
        assert word == "+client|setinfo"
        return False
    return True
