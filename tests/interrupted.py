"""Reads while a signal handler raises at any moment, as a time limit on tasks does.

A process of its own: an exception that strikes in a finalizer, where it can reach nobody, is
printed. Arguments: URL, key prefix, "hiredis" or "python". Says how often it was interrupted.
"""

import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

from rustauth_django import RustAuthStores, SecondaryStorage
from rustauth_django.engine import protocol

CONNECTIONS = 3
KEYS = [f"key-{number}" for number in range(50)]


class Interrupted(Exception):
    """Comes from a signal handler."""


def interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted


def read_until_struck(storage: SecondaryStorage, rng: random.Random) -> bool:
    """Reads, with a signal on its way. Did it strike?"""
    key = rng.choice(KEYS)
    try:
        signal.setitimer(signal.ITIMER_REAL, rng.random() * 0.0003 + 1e-6)
        for _ in range(20):
            assert storage.get(key) == key * 20
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Interrupted:
        return True
    except UnboundLocalError as error:
        # redis-py 5.2 stumbles over it where it makes a connection.
        if not isinstance(error.__context__, Interrupted):
            raise
        return True
    return False


def main(url: str, prefix: str, reader: str) -> None:
    if reader == "python":
        protocol.HIREDIS = None
    options = {"max_connections": CONNECTIONS, "timeout": 20}
    stores = RustAuthStores.from_url(url, key_prefix=prefix, client_options=options)
    storage, rng, struck = stores.secondary_storage, random.Random(2), 0
    for key in KEYS:
        storage.set(key, key * 20, 60)
    signal.signal(signal.SIGALRM, interrupt)
    ends_at = time.monotonic() + 4
    while time.monotonic() < ends_at and struck < 1_500:
        try:
            is_struck = read_until_struck(storage, rng)
        except Interrupted:  # between two lines of the function
            is_struck = True
        struck += is_struck
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    # None of the places was lost: so many threads can read at the same moment.
    barrier = threading.Barrier(CONNECTIONS)

    def read(key: str) -> bool:
        barrier.wait()
        return storage.get(key) == key * 20

    started = time.monotonic()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        assert all(pool.map(read, KEYS[:CONNECTIONS]))
    assert time.monotonic() - started < 10
    stores.close()
    print(struck)  # noqa: T201  # for the test


if __name__ == "__main__":
    main(*sys.argv[1:])
