"""The suite's own servers."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODE = """
import os, signal
from tests.servers import BINARIES, Server
server = Server(next(iter(BINARIES))).start()
server.stop_answering()
print(server.port, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_no_server_outlives_the_process_that_started_it() -> None:
    """Even if that is killed and the server hangs: the port is free again."""
    killed = subprocess.run(
        [sys.executable, "-c", CODE], stdout=subprocess.PIPE, cwd=ROOT, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", int(killed.stdout))).close()
        except ConnectionRefusedError:
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
