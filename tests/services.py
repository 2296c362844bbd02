"""Real services of other stacks, as processes on loopback: what they have in common."""

import fcntl
import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest

from . import orphans

SOURCES = Path(__file__).parent / "peers"
SECRET = "a throw-away secret of the tests, 0123456789"
PASSWORD = "correct horse battery 1"
# What is installed or built is kept outside of the project.
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "rustauth-django"
# A service that is missing is then a failure, and not a reason to skip.
IS_REQUIRED = bool(os.environ.get("RUSTAUTH_REQUIRE_PEERS"))


class NotInstalled(Exception):
    """Why a service is not there; the message is the reason of a skip."""


class Reply(NamedTuple):
    """A response: cookies are as they were set, to be sent back as they are."""

    status: int
    headers: dict[str, str]
    cookies: dict[str, str]
    body: Any


def require(install: Callable[[], object]) -> None:
    """Skip the test, or fail it where peers are required, if a service cannot be installed."""
    try:
        install()
    except NotInstalled as error:
        if IS_REQUIRED:
            raise
        pytest.skip(str(error))


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Of the processes of tests, which start together, one installs and the others wait."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(command: Sequence[str], folder: Path, **environment: str) -> None:
    """Run what installs or builds a service. Raises ``NotInstalled``."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode:
        raise NotInstalled(f"{command[0]} could not install it: {done.stderr[-500:]}")


class Service:
    """A process that prints its address once it listens."""

    def __init__(self, command: Sequence[str], folder: Path | None = None) -> None:
        self._process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        orphans.watch(self._process)
        assert self._process.stdout is not None
        log = []
        for line in self._process.stdout:
            if line.startswith("http://"):
                self.url = line.strip()
                return
            log.append(line)
        self.stop()
        raise RuntimeError("".join(log))

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
        request = urllib.request.Request(f"{self.url}/api/auth{path}", data, sent)
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
        try:
            found = json.loads(text) if text else None
        except ValueError:
            found = text
        return Reply(response.status, received, kept, found)

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
