"""The real Better Auth, as a process on loopback; tests/peers/better-auth says which versions."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest

from . import orphans

SOURCE = Path(__file__).parent / "peers" / "better-auth"
VERSIONS = ("1.6.9", "1.7.25")
SECRET = "a throw-away secret of the tests, 0123456789"
PASSWORD = "correct horse battery 1"
# Packages are installed once for each lock file, outside of the project.
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "rustauth-django"
# A missing Node.js is then a failure, and not a reason to skip.
IS_REQUIRED = bool(os.environ.get("RUSTAUTH_REQUIRE_PEERS"))


class NotInstalled(Exception):
    """Why there is no Better Auth; the message is the reason of a skip."""


class Reply(NamedTuple):
    """A response: cookies are as they were set, to be sent back as they are."""

    status: int
    headers: dict[str, str]
    cookies: dict[str, str]
    body: Any


@cache
def installed() -> Path:
    """The folder with all versions. Raises ``NotInstalled``."""
    if not (shutil.which("node") and shutil.which("npm")):
        raise NotInstalled("Node.js with npm is not installed")
    files = sorted(path for path in SOURCE.rglob("*") if path.is_file())
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / f"better-auth-{digest}"
    with (CACHE / "better-auth.lock").open("w") as lock:
        # Several processes of tests start at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _install(folder)
    return folder


def _install(folder: Path) -> None:
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(SOURCE, partial)
    for version in VERSIONS:
        shutil.copy(SOURCE / "server.mjs", partial / version)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=partial, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise NotInstalled(f"npm could not install Better Auth: {done.stderr[-500:]}")
    partial.rename(folder)


def require() -> None:
    """Skip the test, or fail it where peers are required, if there is no Better Auth."""
    try:
        installed()
    except NotInstalled as error:
        if IS_REQUIRED:
            raise
        pytest.skip(str(error))


class BetterAuth:
    """One service: sessions on the server of ``redis_url`` and users in its own memory; without it,
    all of them in a database that the options name.
    """

    def __init__(self, version: str, redis_url: str | None, prefix: str, **options: Any) -> None:
        given = {
            "redis": redis_url,
            "secret": SECRET,
            "prefix": prefix,
            "plugins": ["bearer", "jwt", "multiSession", "admin"],
            **options,
        }
        self.version = version
        self._process = subprocess.Popen(
            ["node", "server.mjs", json.dumps(given)],
            cwd=installed() / version,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        orphans.watch(self._process)
        assert self._process.stdout is not None
        self.log: list[str] = []
        self.url = ""
        for line in self._process.stdout:
            if line.startswith("http://"):
                self.url = line.strip()
                break
            self.log.append(line)
        assert self.url, "".join(self.log)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=30)
        orphans.forget(self._process)

    def call(
        self, path: str, body: Any = None, cookies: dict[str, str] | None = None, **headers: str
    ) -> Reply:
        """A POST with this body as JSON, or a GET."""
        sent = {"content-type": "application/json", "origin": self.url, **headers}
        if cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        data = None if body is None else json.dumps(body).encode()
        url = self.url + ("/api/auth" if not path.startswith("/make-admin/") else "") + path
        request = urllib.request.Request(url, data, sent)
        try:
            response = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            text = response.read().decode()
        set_cookies = [
            line.partition(";")[0].partition("=")
            for line in response.headers.get_all("set-cookie") or []
        ]
        received = {name.lower(): value for name, value in response.headers.items()}
        kept = {name: value for name, _, value in set_cookies}
        return Reply(response.status, received, kept, json.loads(text) if text else None)

    def sign_up(self, name: str) -> Reply:
        email = f"{name}@example.com"
        reply = self.call(
            "/sign-up/email", {"email": email, "password": PASSWORD, "name": name.title()}
        )
        assert reply.status == 200, reply
        return reply

    def sign_in(self, name: str, **more: Any) -> Reply:
        email = f"{name}@example.com"
        reply = self.call("/sign-in/email", {"email": email, "password": PASSWORD, **more})
        assert reply.status == 200, reply
        return reply
