"""What was revoked stays so: in races of two processes, while the server is emptied and killed.

RUSTAUTH_RACES sets how many races there are on each database.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import redis
from django.apps import apps
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import User
from django.db import connections
from django.test import override_settings

from rustauth_django.sessions import SessionStore, list_sessions

from .. import orphans
from ..servers import Server
from ..test_sessions import ENGINE
from .databases import ALIAS, Database
from .test_adoption import database

__all__ = ["database"]

RACES = int(os.environ.get("RUSTAUTH_RACES", "400"))


class Process:
    """A process of the site; it does one thing at a time."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.racer", json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        orphans.watch(self._process)
        self.wait("ready")

    def begin(self, **task: Any) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()

    def wait(self, word: str = "done") -> None:
        assert self._process.stdout
        assert self._process.stdout.readline().strip() == word

    def stop(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=30)
        orphans.forget(self._process)
        assert self._process.stdout
        self._process.stdout.close()


@contextmanager
def processes(rustauth: dict[str, Any]) -> Iterator[list[Process]]:
    """One that revokes and one that visits."""
    given = connections.databases[ALIAS]
    kept = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS")
    config = {
        "DATABASES": {"default": {}, ALIAS: {name: given[name] for name in kept if name in given}},
        "DATABASE_ROUTERS": ["tests.hostile.test_spellings.Router"],
        "INSTALLED_APPS": ["django.contrib.auth", "django.contrib.contenttypes", "rustauth_django"],
        "SECRET_KEY": settings.SECRET_KEY,
        "USE_TZ": True,
        "RUSTAUTH": rustauth,
        **ENGINE,
    }
    with ExitStack() as stack:
        made = []
        for _ in range(2):
            made.append(Process(config))
            stack.callback(made[-1].stop)
        yield made


@pytest.mark.slow
def test_nothing_is_revived(database: Database, prefix: str) -> None:
    """Whoever is first, and whatever the server forgets meanwhile; only what began later lives."""
    with (
        Server("valkey-9") as server,
        database.connected(NAME="sessions"),
        redis.Redis(port=server.port) as raw,
    ):
        rustauth = {
            "URL": server.plain_url,
            "KEY_PREFIX": prefix,
            "CLIENT_OPTIONS": {"socket_timeout": 2, "socket_connect_timeout": 2},
            "SESSIONS": {"DATABASE": ALIAS},
        }
        routers = ["tests.hostile.test_spellings.Router"]
        rows = apps.get_model("rustauth_django", "SessionRow").objects.using(ALIAS)
        with (
            override_settings(**ENGINE, RUSTAUTH=rustauth, DATABASE_ROUTERS=routers),
            processes(rustauth) as (revoker, visitor),
        ):
            revived = 0
            for number in range(RACES):
                session = SessionStore()
                session.update({SESSION_KEY: str(number), "cart": [0]})
                session.save()
                if number % 3 == 0:
                    raw.flushall()
                visitor.begin(do="visit", key=session.session_key)
                revoker.begin(do=("all", "one")[number % 2], user=str(number))
                if number % 50 == 25:
                    server.kill()
                    server.start()
                elif number % 7 == 0:
                    raw.flushall()
                visitor.wait()
                revoker.wait()
                if SessionStore(session.session_key).load() or list_sessions(User(pk=number)):
                    revived += 1
                assert not rows.filter(user_id=str(number), is_ended=False).exists()
            assert revived == 0
