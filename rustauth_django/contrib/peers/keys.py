"""The public keys with which a peer signs, fetched from its JWKS and kept."""

import asyncio
import json
import logging
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeout
from contextlib import suppress
from typing import Any

from jwt import PyJWK
from jwt.exceptions import PyJWTError

from ...engine.plans import Call, Plan
from ...engine.wire import on_fork
from ...exceptions import BackendUnavailable

logger = logging.getLogger("rustauth_django")

#: Asymmetric ones: with a symmetric algorithm, whoever can verify can sign.
ALGORITHMS = (
    *("EdDSA", "ES256", "ES384", "ES512"),
    *("PS256", "PS384", "PS512", "RS256", "RS384", "RS512"),
)
# Seconds. Keys are fetched again in the background after the first time, and count for the second.
REFRESH_AFTER = 300
KEEP_FOR = 86_400
# A key that is not known, or a peer that is away, leads to one fetch in so many seconds.
FETCH_AGAIN = 10
FETCH_TIMEOUT = 2
GIVE_UP = 30
WAIT = 5
MAX_BYTES = 262_144
MAX_KEYS = 64
LABEL = "keys of a peer"


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """The address of keys is a matter of trust: nobody may send us elsewhere."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class KeySet:
    """The keys at ``url``. One fetch serves everybody who waits, in whatever thread or loop.

    ``clock`` returns seconds that only grow.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._keys: dict[str, PyJWK] = {}
        self._fetched_at = float("-inf")
        self._begin()
        on_fork(self)

    def _begin(self) -> None:
        # A fork has no thread that fetches.
        self._lock = threading.Lock()
        self._fetching: Future[None] | None = None
        self._asked_at = float("-inf")

    def find(self, kid: str) -> "Plan[Call, PyJWK | None]":
        """The key of this id; None if the peer has none. Raises ``BackendUnavailable`` if no key of
        the peer's is known, and none can be fetched.
        """
        age = self._clock() - self._fetched_at
        key = self._keys.get(kid) if age < KEEP_FOR else None
        if key is not None:
            if age > REFRESH_AFTER:
                self._fetch()
            return key
        fetching = self._fetch()
        if fetching is not None:
            yield Call(wait, (fetching,), twin=await_fetch)
        if self._clock() - self._fetched_at >= KEEP_FOR:
            raise BackendUnavailable(LABEL, "they cannot be fetched")
        return self._keys.get(kid)

    def _fetch(self) -> "Future[None] | None":
        """The fetch that is on its way, a new one, or None if the last one was a moment ago."""
        with self._lock:
            now = self._clock()
            if self._fetching is not None and now - self._asked_at > GIVE_UP:
                self._fetching = None  # somebody drips; that thread goes on by itself
            if self._fetching is None:
                if now - self._asked_at < FETCH_AGAIN:
                    return None
                self._asked_at = now
                fetching: Future[None] = Future()
                thread = threading.Thread(
                    target=self._run, args=(fetching,), name="rustauth-keys", daemon=True
                )
                self._fetching = fetching
                try:
                    thread.start()
                except RuntimeError:  # there can be no more threads
                    self._fetching = None
            return self._fetching

    def _run(self, fetching: "Future[None]") -> None:
        try:
            self._keys = read_keys(fetch(self._url))
            self._fetched_at = self._clock()
        except Exception as error:  # noqa: BLE001  # whatever the network does; the old keys stay
            logger.warning("The keys of a peer could not be fetched: %s", type(error).__name__)
        finally:
            # By now it may be another one's turn.
            if self._fetching is fetching:
                self._fetching = None
            fetching.set_result(None)


def wait(fetching: "Future[None]") -> None:
    with suppress(WaitTimeout):
        fetching.result(WAIT)


async def await_fetch(fetching: "Future[None]") -> None:
    # The fetch goes on for others if this caller is cancelled.
    waiting: Future[None] = Future()

    def done(_: "Future[None]") -> None:
        if waiting.set_running_or_notify_cancel():
            waiting.set_result(None)

    fetching.add_done_callback(done)
    with suppress(TimeoutError):
        async with asyncio.timeout(WAIT):
            await asyncio.wrap_future(waiting)


def fetch(url: str) -> bytes:
    """What is at a URL. Raises whatever urllib does, or ``ValueError`` if it is too much."""
    opener = urllib.request.build_opener(NoRedirect)
    # The settings take http and https alone.
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310
    ends_at = time.monotonic() + WAIT
    with opener.open(request, timeout=FETCH_TIMEOUT) as response:
        content = b""
        while chunk := response.read1(65_536):
            content += chunk
            if len(content) > MAX_BYTES or time.monotonic() > ends_at:
                raise ValueError("too much, or too slow")
    return content


def read_keys(content: bytes) -> dict[str, PyJWK]:
    """The usable keys of a JWKS by their ids. Raises ``ValueError`` if it is none."""
    found = json.loads(content)
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, list):
        raise ValueError("not a JWKS")
    usable = {}
    for fields in keys[:MAX_KEYS]:
        if not isinstance(fields, dict) or fields.get("kty") == "oct":
            continue
        if fields.get("use", "sig") != "sig":
            continue
        try:
            key = PyJWK(fields)
        except (PyJWTError, ValueError, TypeError, KeyError, NotImplementedError):
            continue
        if key.algorithm_name in ALGORITHMS and isinstance(key.key_id, str):
            usable[key.key_id] = key
    return usable
