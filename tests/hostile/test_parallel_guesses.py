"""Two hundred wrong passwords at once, at servers as sites run them."""

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from tests import orphans
from tests.servers import Server, free_port

ROOT = Path(__file__).parent.parent.parent
GUESSES = 200
SERVERS = {
    "gunicorn": ["gunicorn", "--workers=2", "--threads=32", "tests.hostile.wsgi"],
    "uvicorn": ["uvicorn", "--workers=2", "--log-level=warning", "tests.hostile.asgi:application"],
}

pytestmark = pytest.mark.slow


@pytest.fixture(params=SERVERS)
def port(request: pytest.FixtureRequest, one_server: Server) -> Iterator[int]:
    """Where a site listens."""
    pytest.importorskip(request.param)
    with redis.Redis.from_url(one_server.url) as raw:
        raw.flushdb()
    port = free_port()
    module, *options = SERVERS[request.param]
    where = {"gunicorn": ["-b", f"127.0.0.1:{port}"], "uvicorn": ["--port", str(port)]}
    environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    process = subprocess.Popen(
        [sys.executable, "-m", module, *where[module], *options],
        cwd=ROOT,
        env={**environment, "RUSTAUTH_HOSTILE_URL": one_server.url},
    )
    orphans.watch(process)
    try:
        deadline = time.monotonic() + 30
        while guess(port, "nobody", "203.0.113.99") == 0:
            assert process.poll() is None
            assert time.monotonic() < deadline
        yield port
    finally:
        process.terminate()
        process.wait(30)
        with redis.Redis.from_url(one_server.url) as raw:
            raw.flushdb()


def guess(port: int, name: str, address: str) -> int:
    """The status of a wrong password; 0 if nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {"X-Forwarded-For": address}
        connection.request("GET", f"/sign-in/?name={name}", headers=headers)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


@pytest.mark.parametrize("addresses", [1, GUESSES])
def test_five_passwords_are_looked_at(port: int, one_server: Server, addresses: int) -> None:
    """Of an account's, whatever the addresses, the threads and the processes."""
    with redis.Redis.from_url(one_server.url) as raw:
        raw.delete("checks")
        with ThreadPoolExecutor(GUESSES) as pool:
            peers = [f"198.51.100.{number % addresses}" for number in range(GUESSES)]
            statuses = list(pool.map(lambda peer: guess(port, "ada", peer), peers))
        assert raw.get("checks") == b"5"
    assert sorted(statuses) == [401] * 5 + [429] * (GUESSES - 5)


def test_twenty_of_one_address_are_looked_at(port: int, one_server: Server) -> None:
    """However many accounts it tries."""
    with redis.Redis.from_url(one_server.url) as raw:
        raw.delete("checks")
        with ThreadPoolExecutor(GUESSES) as pool:
            names = [f"name-{number}" for number in range(GUESSES)]
            statuses = list(pool.map(lambda name: guess(port, name, "198.51.100.1"), names))
        assert raw.get("checks") == b"20"
    assert statuses.count(429) == GUESSES - 20
