"""Real databases in folders of their own, without the network, ended by their own handle."""

import importlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from tests import orphans

# What Django calls the database that is there at the moment.
ALIAS = "hostile"
# Both refuse to run as root, so root hands them over to somebody who owns nothing else.
NOBODY = pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def find(program: str) -> str | None:
    """Where a program of either is; the newest, if Debian's PostgreSQL has several versions."""
    versions = Path("/usr/lib/postgresql").glob("*")
    newest = sorted(versions, key=lambda folder: (len(folder.name), folder.name), reverse=True)
    folders = [*(f"{folder}/bin" for folder in newest), os.environ.get("PATH", ""), "/usr/sbin"]
    return shutil.which(program, path=os.pathsep.join(folders))


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """One of the databases that sites use: what it needs, and how it is set up and started.

    Each has a ``{folder}`` of its own, which is empty at first, and listens on a socket there.
    """

    setup: tuple[str, ...]
    command: tuple[str, ...]
    socket: str
    package: str
    drivers: tuple[str, ...]
    distribution: str
    end: signal.Signals
    # Of the database that is there from the beginning, as in Django's DATABASES.
    settings: dict[str, Any]

    def missing(self) -> str | None:
        """Why tests on it cannot run here; None if they can."""
        for program in (self.setup[0], self.command[0]):
            if find(program) is None:
                return f"there is no {program} (apt-get install {self.package})"
        if not any(map(importlib.util.find_spec, self.drivers)):
            return f"{self.distribution} is not installed (pip install --group databases)"
        return None


POSTGRESQL = Kind(
    setup=(
        *("initdb", "--pgdata={folder}/data", "--username=tests", "--auth=trust", "--no-locale"),
        *("--encoding=UTF8", "--no-sync"),
    ),
    command=(
        *("postgres", "-D", "{folder}/data", "-c", "listen_addresses=", "-c", "fsync=off"),
        *("-c", "unix_socket_directories={folder}"),
    ),
    socket=".s.PGSQL.5432",
    package="postgresql",
    drivers=("psycopg",),
    distribution="psycopg[binary]",
    # Without waiting for those who are still connected.
    end=signal.SIGINT,
    settings={
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "tests",
        "HOST": "{folder}",
    },
)
# As little to write as can be.
SMALL = ("--innodb-log-file-size=4M", "--innodb-flush-method=nosync", "--tmpdir={folder}")
MARIADB = Kind(
    setup=(
        *("mariadb-install-db", "--no-defaults", "--datadir={folder}/data", "--skip-name-resolve"),
        *("--auth-root-authentication-method=normal", "--skip-test-db", *SMALL),
    ),
    command=(
        *("mariadbd", "--no-defaults", "--datadir={folder}/data", "--socket={folder}/socket"),
        *("--skip-networking", "--pid-file={folder}/pid"),
        *("--character-set-server=utf8mb4", "--innodb-flush-log-at-trx-commit=0", *SMALL),
    ),
    socket="socket",
    package="mariadb-server",
    drivers=("MySQLdb", "pymysql"),
    distribution="PyMySQL",
    end=signal.SIGTERM,
    settings={
        "ENGINE": "django.db.backends.mysql",
        "NAME": "mysql",
        "USER": "root",
        "HOST": "{folder}/socket",
    },
)


def require(kind: Kind) -> None:
    """Skip the test, or fail it where databases are required, if this one cannot run here."""
    if reason := kind.missing():
        if os.environ.get("RUSTAUTH_REQUIRE_DATABASES"):
            pytest.fail(f"RUSTAUTH_REQUIRE_DATABASES is set, but {reason}")
        pytest.skip(reason)


def disconnect() -> None:
    """Close this thread's connection."""
    connections[ALIAS].close()
    del connections[ALIAS]


class DatabaseFailed(Exception):
    """A database that did not come up; its log is the message."""


class Database:
    """A server process."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        # Where another user may go, and with a name that is short enough for a socket's.
        self._folder = tempfile.TemporaryDirectory(prefix="rustauth-test-", dir="/tmp")
        if NOBODY is not None:
            os.chown(self._folder.name, NOBODY.pw_uid, NOBODY.pw_gid)
        self._log = Path(self._folder.name) / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> str:
        return self._folder.name

    def _start(self, command: tuple[str, ...]) -> "subprocess.Popen[bytes]":
        program = find(command[0])
        assert program is not None
        with self._log.open("ab") as file:
            process = subprocess.Popen(
                [program, *(option.format(folder=self._folder.name) for option in command[1:])],
                cwd=self._folder.name,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                user=NOBODY and NOBODY.pw_uid,
                group=NOBODY and NOBODY.pw_gid,
                extra_groups=NOBODY and [],
            )
        orphans.watch(process)
        return process

    def start(self) -> Self:
        """Set it up, and wait until it answers."""
        try:
            if self._set_up():
                self._process = self._start(self.kind.command)
            if self._process is None or not self._answers(self._process):
                raise DatabaseFailed(self._log.read_text())
        except BaseException:
            self.stop()
            raise
        return self

    def _set_up(self) -> bool:
        process = self._start(self.kind.setup)
        try:
            return process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
            orphans.forget(process)

    def _answers(self, process: "subprocess.Popen[bytes]") -> bool:
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            try:
                # First without a driver: PyMySQL leaves a socket open if nobody listens.
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(f"{self._folder.name}/{self.kind.socket}")
                with self.connected() as connection:
                    connection.ensure_connection()
            except (OSError, OperationalError):
                time.sleep(0.02)
            else:
                return True
        return False

    @contextmanager
    def connected(self, **settings: str) -> Iterator[BaseDatabaseWrapper]:
        """Django has it as the database ``ALIAS``; closes this thread's connection at the end."""
        if self.kind is MARIADB and importlib.util.find_spec("MySQLdb") is None:
            importlib.import_module("pymysql").install_as_MySQLdb()
        settings = {**self.kind.settings, **settings}
        settings["HOST"] = settings["HOST"].format(folder=self._folder.name)
        whole = connections.configure_settings({DEFAULT_DB_ALIAS: {}, ALIAS: settings})
        connections.databases[ALIAS] = whole[ALIAS]
        try:
            yield connections[ALIAS]
        finally:
            disconnect()
            del connections.databases[ALIAS]

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(self.kind.end)
            self._process.wait(timeout=30)
            orphans.forget(self._process)
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
