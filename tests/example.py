"""The example site, running, and visitors of it."""

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
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import redis

from . import orphans
from .servers import free_port

ROOT = Path(__file__).parent.parent
ADA = {"email": "ada@example.com", "password": "correct horse battery staple"}


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
        self.process = self.start("example_project", "--port", str(self.port), port=self.port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, module: str, *args: str, port: int) -> "subprocess.Popen[bytes]":
        """Run a module that listens there, and wait until it answers."""
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", module, *args],
            cwd=self.folder,
            env=self.environment,
            stdout=self.log,
            stderr=self.log,
        )
        orphans.watch(process)
        deadline = time.monotonic() + 60
        while self.send(urllib.request.Request(f"http://127.0.0.1:{port}/about/"))[0] == 0:
            assert process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.1)
        return process

    @contextmanager
    def under_uvicorn(self) -> Iterator[str]:
        """The same site once more, as an ASGI application; its address."""
        port = free_port()
        application = "example_project.asgi:application"
        process = self.start("uvicorn", application, "--port", str(port), port=port)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=20)
            orphans.forget(process)

    def output(self) -> str:
        return (self.folder / "log").read_text()

    def mailed(self, path: str) -> str:
        """The link below a path that was mailed last."""
        return re.findall(rf"{self.url}({path}\S*)", self.output())[-1]

    def server(self) -> "redis.Redis":
        """A plain client of the site's server."""
        url = (self.folder / ".run" / "server.url").read_text().replace("valkey://", "redis://")
        return redis.Redis.from_url(url, decode_responses=True)

    def forget(self) -> None:
        """Limits, sessions, tokens: all of it."""
        with self.server() as client:
            client.flushdb()

    def stored(self) -> list[str]:
        """The keys of what is stored, which no limits are."""
        prefix = "rustauth:secondary:"
        with self.server() as client:
            return sorted(key.removeprefix(prefix) for key in client.keys(f"{prefix}*"))

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any, bytes]:
        names = {"Content-Type": "application/json", **headers}
        return self.send(self.request(path, json.dumps(body).encode(), **names))

    def get(self, path: str, **headers: str) -> tuple[int, Any, bytes]:
        return self.send(self.request(path, None, **headers))

    def request(self, path: str, data: bytes | None, **headers: str) -> urllib.request.Request:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return urllib.request.Request(f"{self.url}{path}", data, names)

    def send(self, request: urllib.request.Request, opener: Any = None) -> tuple[int, Any, bytes]:
        try:
            with (opener or urllib.request.build_opener()).open(request, timeout=20) as response:
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
            command, cwd=self.folder, env=self.environment, timeout=60, check=False, **both
        ).stdout

    def stop(self, ending: signal.Signals = signal.SIGINT) -> None:
        if self.process.poll() is None:
            self.process.send_signal(ending)
            self.process.wait(timeout=20)
            orphans.forget(self.process)
        self.log.close()


class Visitor:
    """Somebody with a cookie jar."""

    def __init__(self, site: Example) -> None:
        self.site = site
        self.jar = CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))

    def api(self, path: str, body: Any = None) -> tuple[int, Any]:
        """A GET, or a POST of a body as JSON; the answer's status and JSON."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = self.site.request(f"/api/auth/{path}", data, **headers)
        status, _, answer = self.site.send(request, self.opener)
        return status, json.loads(answer)

    def read(self, path: str) -> tuple[int, str]:
        """A page."""
        status, _, page = self.site.send(self.site.request(path, None), self.opener)
        return status, page.decode()

    def fill_in(self, path: str, **fields: str) -> tuple[int, str]:
        """Send the form of a page with these fields beside its hidden ones."""
        _, page = self.read(path)
        form = page[page.rindex("<main") :]
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))
        data = urlencode({**hidden, **fields}).encode()
        status, _, page = self.site.send(self.site.request(path, data), self.opener)
        return status, page.decode()
