"""No server outlives the tests, even if their process is killed and cannot stop it."""

import atexit
import functools
import subprocess
import sys

# It reads the number of each process that starts, and the same below zero once that has ended.
# The pipe closes when the tests end, however they do: nobody else can end those that are left.
WATCHER = """
import os, signal, sys
left = set()
for line in sys.stdin:
    number = int(line)
    if number > 0:
        left.add(number)
    else:
        left.discard(-number)
for number in left:
    for name in ("SIGTERM", "SIGCONT"):
        try:
            os.kill(number, getattr(signal, name))
        except ProcessLookupError:
            pass
"""


@functools.cache
def _watcher() -> "subprocess.Popen[str]":
    """One for this process; in a session of its own, so that Ctrl-C does not end it."""
    command = [sys.executable, "-I", "-S", "-c", WATCHER]
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
    atexit.register(watcher.communicate)
    return watcher


def _write(number: int) -> None:
    stream = _watcher().stdin
    assert stream is not None
    print(number, file=stream, flush=True)


def watch(process: "subprocess.Popen[bytes]") -> None:
    """End this process if it is still there when the tests are not."""
    _write(process.pid)


def forget(process: "subprocess.Popen[bytes]") -> None:
    """It has ended: from now on its number may be another's."""
    _write(-process.pid)
