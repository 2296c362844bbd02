"""Tokens that a peer has signed: which count, and how its keys are kept."""

import asyncio
import base64
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from rustauth_django import BackendUnavailable
from rustauth_django.connections import arun, run
from rustauth_django.contrib.peers import keys as keys_module
from rustauth_django.contrib.peers.keys import FETCH_AGAIN, KEEP_FOR, REFRESH_AFTER, KeySet

from .peer_site import MIDDLEWARE
from .site import Site

pytestmark = pytest.mark.django_db(transaction=True)

ISSUER = "https://app.example.com"
CACHE_COOKIE = "better-auth.session_data"
ED = ed25519.Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
OTHER = ed25519.Ed25519PrivateKey.generate()


def jwk(key: Any, kid: str, alg: str | None = None) -> dict[str, Any]:
    kind: Any = {"RSAPrivateKey": RSAAlgorithm, "ECPrivateKey": ECAlgorithm}
    name = type(key).__name__
    algorithm = next((one for part, one in kind.items() if part in name), OKPAlgorithm)
    found = json.loads(algorithm.to_jwk(key.public_key()))
    return {**found, "kid": kid, **({"alg": alg} if alg else {})}


JWKS = {
    "keys": [
        jwk(ED, "ed", "EdDSA"),
        jwk(RSA, "rsa", "RS256"),
        jwk(EC, "ec", "ES256"),
        {"kty": "oct", "k": "c2VjcmV0" * 6, "kid": "oct", "alg": "HS256"},
        {"kty": "new", "kid": "new"},
        "nonsense",
        {"kty": "OKP", "crv": "Ed25519", "x": "!", "kid": "broken"},
        {**jwk(OTHER, "none"), "kid": None},
    ]
}


def claims(**more: Any) -> dict[str, Any]:
    now = int(time.time())
    whole = {
        "iss": ISSUER,
        "aud": ISSUER,
        "sub": "ada",
        "id": "ada",
        "name": "Ada",
        "iat": now,
        "exp": now + 900,
        **more,
    }
    return {name: value for name, value in whole.items() if value is not ...}


def token(key: Any = ED, kid: Any = "ed", alg: str = "EdDSA", **more: Any) -> str:
    headers = {name: more.pop(name) for name in ("typ", "crit") if name in more}
    if kid is not ...:
        headers["kid"] = kid
    return jwt.encode(claims(**more), key, algorithm=alg, headers=headers)


class Jwks:
    """A server of keys on loopback; ``answer`` is its status, headers and body."""

    def __init__(self) -> None:
        self.answer: tuple[int, dict[str, str], bytes] = (200, {}, json.dumps(JWKS).encode())
        self.asked = 0
        self.hold = threading.Event()
        self.hold.set()
        jwks = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                jwks.asked += 1
                jwks.hold.wait(10)
                status, headers, body = jwks.answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                with suppress(OSError):  # nobody waits any more
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nowhere."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks"

    def publish(self, *keys: dict[str, Any]) -> None:
        self.answer = (200, {}, json.dumps({"keys": keys}).encode())

    def close(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def jwks() -> Iterator[Jwks]:
    jwks = Jwks()
    yield jwks
    jwks.close()


class JwtSite(Site):
    def peer(self, jwks: Jwks, **peer: Any) -> None:
        user = "auser_for" if self.runner else "user_for"
        self.base["PEERS"] = {
            "app": {
                "STACK": "better-auth",
                "VIA": "jwt",
                "ISSUER": ISSUER,
                "JWKS_URL": jwks.url,
                "USER": f"tests.peer_site.{user}",
                **peer,
            }
        }
        self.configure()

    def who(self, token: str) -> str:
        reply = self.get("/who", authorization=f"Bearer {token}")
        assert reply.status_code == 200, reply.content
        return str(reply.json()["user"])

    def by_cookie(self, token: str) -> str:
        return str(self.get("/who", cookie=f"{CACHE_COOKIE}={token}").json()["user"])


@pytest.fixture
def site(jwks: Jwks, prefix: str, runner: asyncio.Runner | None) -> Iterator[JwtSite]:
    settings = {"ROOT_URLCONF": "tests.peer_site", "MIDDLEWARE": MIDDLEWARE}
    site = JwtSite("memory://", prefix, runner, **settings)
    site.peer(jwks)
    yield site
    site.close()


def test_a_token_counts(site: JwtSite, jwks: Jwks) -> None:
    """By whatever asymmetric key the JWKS has; it is fetched once."""
    good = [
        token(),
        token(RSA, "rsa", "RS256"),
        token(EC, "ec", "ES256"),
        token(typ="JWT"),
        token(typ="jwt"),
        token(aud=[ISSUER, "another"]),
        token(iat=int(time.time()) + 3),
        token(iat=...),
        token(sub="x" * 255),
    ]
    assert [bool(site.who(one)) for one in good] == [True] * len(good)
    assert jwks.asked == 1
    site.peer(jwks, AUDIENCE="django")
    assert [site.who(one) for one in (token(), token(aud="django"))] == ["", "ada"]


def parts(token: str) -> list[str]:
    return token.split(".")


def test_a_token_that_does_not_count_is_nobody_s(site: JwtSite, jwks: Jwks) -> None:
    """PEER-19: never an error."""
    now = int(time.time())
    public = ED.public_key().public_bytes_raw()
    header, body, signature = parts(token())
    none = jwt.encode(claims(), None, algorithm="none", headers={"kid": "ed"})
    by_secret = jwt.encode(claims(), b"secret" * 6, algorithm="HS256", headers={"kid": "oct"})
    by_public = jwt.encode(claims(), public, algorithm="HS256", headers={"kid": "ed"})
    bad = {
        "expired": token(exp=now - 6),
        "not yet": token(nbf=now + 60),
        "made later": token(iat=now + 60),
        "another issuer": token(iss="https://evil.example.com"),
        "an issuer with a slash": token(iss=ISSUER + "/"),
        "another audience": token(aud="https://other.example.com"),
        "no issuer": token(iss=...),
        "no audience": token(aud=...),
        "no end": token(exp=...),
        "no user": token(sub=...),
        "an empty user": token(sub=""),
        "a long user": token(sub="x" * 256),
        "another key": token(OTHER),
        "a key of another kind": token(RSA, "ed", "RS256"),
        "an unknown key": token(OTHER, "unknown"),
        "a key without an id": token(kid=...),
        "no key": none,
        "a secret": by_secret,
        "the public key as a secret": by_public,
        "the cache's": token(typ="better-auth.session-cache+jwt"),
        "another type": token(typ="at+jwt"),
        "an end beyond all years": token(exp=10**15),
        "no signature": f"{header}.{body}.",
        "another body": f"{header}.{parts(token(sub='eve'))[1]}.{signature}",
        "no token": "x",
        "dots": "..",
        "long": f"{header}.{'A' * 20_000}.{signature}",
        "nested": base64.urlsafe_b64encode(b"[" * 9000).decode() + ".e30.AA",
        "a nested body": f"{header}.{base64.urlsafe_b64encode(b'[' * 9000).decode()}.{signature}",
        "beyond ASCII": "\u00e9.\u00e9.\u00e9".encode().decode("latin-1"),
    }
    for what, one in bad.items():
        assert site.who(one) == "", what
    assert site.who(token()) == "ada"
    # The unknown key was looked for once.
    assert jwks.asked <= 2


def test_the_cache_is_for_its_cookie_alone(site: JwtSite, jwks: Jwks) -> None:
    """PEER-20: by its type and its audience; whose it is stands in it three times."""
    kind = "better-auth.session-cache+jwt"
    session = {
        "id": "s",
        "userId": "ada",
        "token": "t" * 32,
        "expiresAt": "2999-01-01T00:00:00.000Z",
        "ipAddress": "203.0.113.7",
        "userAgent": "x",
    }
    whole: dict[str, Any] = {
        "typ": kind,
        "aud": "better-auth:session-cache",
        "sid": "t" * 32,
        "session": session,
        "user": {"id": "ada", "name": "Ada"},
    }
    assert site.by_cookie(token(**whole)) == ""  # nobody said that it counts
    site.peer(jwks, CACHE_COOKIE=CACHE_COOKIE)
    found = site.get("/who", cookie=f"{CACHE_COOKIE}={token(**whole)}").json()
    assert found == {"user": "ada", "peer": "app", "user_id": "ada", "session_id": "s"}
    bad: list[dict[str, Any]] = [
        {"typ": "JWT"},
        {"aud": ISSUER},
        {"sub": "eve"},
        {"sid": "u" * 32},
        {"sid": ...},
        {"session": ...},
        {"session": []},
        {"user": ...},
        {"user": {"id": "eve"}},
        {"user": {"id": "ada", "banned": True}},
        {"session": {**session, "expiresAt": "2020-01-01T00:00:00.000Z"}},
        {"session": {**session, "userId": "eve"}},
        {"exp": int(time.time()) - 60},
    ]
    for more in bad:
        assert site.by_cookie(token(**{**whole, **more})) == "", more
    assert site.by_cookie(token()) == ""
    assert site.who(token(**whole)) == ""


def test_keys_that_cannot_be_fetched(site: JwtSite, jwks: Jwks) -> None:
    """Everybody is a visitor, or nobody is served; and one request waits for it, not each."""
    for answer in (
        (500, {}, b""),
        (200, {}, b"<html>"),
        (200, {}, b'{"keys":{}}'),
        (200, {}, b"[1]"),
        (200, {}, b" " * 300_000),
        (302, {"Location": jwks.url}, b""),
    ):
        jwks.answer = answer
        site.peer(jwks)
        asked = jwks.asked
        assert site.who(token()) == ""
        assert site.who(token()) == ""
        assert jwks.asked == asked + 1
        site.peer(jwks, ON_ERROR="deny")
        for page in ("/who", "/rest", "/api/who", "/api/awho"):
            reply = site.get(page, authorization=f"Bearer {token()}")
            assert reply.status_code == 503, page
        assert site.who("x") == ""
        assert site.get("/who").status_code == 200


def look(keys: KeySet, kid: str, is_async: bool) -> bool:
    """Is there such a key?"""
    found = asyncio.run(arun(keys.find(kid))) if is_async else run(keys.find(kid))
    return found is not None


@pytest.mark.parametrize("is_async", [False, True])
def test_keys_are_kept_and_refreshed(jwks: Jwks, is_async: bool) -> None:
    """In the background: no request waits for it. What is gone there counts until then."""
    now = 0.0
    keys = KeySet(jwks.url, lambda: now)
    assert look(keys, "ed", is_async)
    now = REFRESH_AFTER
    assert look(keys, "ed", is_async)
    assert jwks.asked == 1
    jwks.hold.clear()
    jwks.publish(jwk(OTHER, "next", "EdDSA"))
    now += 1
    assert look(keys, "ed", is_async)  # and does not wait for the answer that is held
    fetching = keys._fetching
    assert fetching is not None
    jwks.hold.set()
    fetching.result(10)
    assert jwks.asked == 2
    assert look(keys, "next", is_async)
    now += FETCH_AGAIN
    assert not look(keys, "ed", is_async)


@pytest.mark.parametrize("is_async", [False, True])
def test_an_unknown_key_is_looked_for_once_in_a_while(jwks: Jwks, is_async: bool) -> None:
    """Whoever makes up ids cannot have the peer asked each time."""
    now = 0.0
    keys = KeySet(jwks.url, lambda: now)
    assert look(keys, "ed", is_async)
    assert not any(look(keys, f"made-up-{number}", is_async) for number in range(20))
    assert jwks.asked == 1
    now = FETCH_AGAIN
    jwks.publish(jwk(ED, "ed"), jwk(OTHER, "next"))
    assert look(keys, "next", is_async)
    assert jwks.asked == 2


@pytest.mark.parametrize("is_async", [False, True])
def test_keys_outlive_an_outage_for_a_day(jwks: Jwks, is_async: bool) -> None:
    """And no longer, since they may have been withdrawn."""
    now = 0.0
    keys = KeySet(jwks.url, lambda: now)
    assert look(keys, "ed", is_async)
    jwks.answer = (500, {}, b"")
    now = KEEP_FOR - 1.0
    assert look(keys, "ed", is_async)
    assert not look(keys, "unknown", is_async)
    now = KEEP_FOR + FETCH_AGAIN
    with pytest.raises(BackendUnavailable):
        look(keys, "ed", is_async)


def test_one_fetch_serves_all_who_wait(jwks: Jwks) -> None:
    """Threads and loops alike; a caller that gives up stops nobody."""
    keys = KeySet(jwks.url)
    jwks.hold.clear()

    async def many() -> list[bool]:
        looks = [asyncio.ensure_future(arun(keys.find("ed"))) for _ in range(20)]
        await asyncio.sleep(0)
        looks[0].cancel()
        jwks.hold.set()
        found = await asyncio.gather(*looks, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        return [one is not None for one in found[1:]]

    with ThreadPoolExecutor(8) as pool:
        threads = [pool.submit(look, keys, "ed", False) for _ in range(8)]
        assert asyncio.run(many()) == [True] * 19
        assert [one.result() for one in threads] == [True] * 8
    assert jwks.asked == 1


def test_no_peer_is_asked_for_the_keys_of_another(site: JwtSite, jwks: Jwks) -> None:
    """The issuer says whose token it is, before any key is looked for."""
    other = Jwks()
    other.hold.clear()
    user = "tests.peer_site." + ("auser_for" if site.runner else "user_for")
    common = {"STACK": "better-auth", "VIA": "jwt", "USER": user}
    away = {"ISSUER": "https://b.example.com", "JWKS_URL": other.url, "ON_ERROR": "deny"}
    site.base["PEERS"] = {
        "away": {**common, **away},
        "app": {**common, "ISSUER": ISSUER, "JWKS_URL": jwks.url},
    }
    site.configure()
    assert site.who(token()) == "ada"
    assert other.asked == 0
    other.close()


def test_a_thread_that_cannot_start_is_no_end(jwks: Jwks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known keys count, and the next fetch is tried."""
    now = 0.0
    keys = KeySet(jwks.url, lambda: now)
    assert look(keys, "ed", False)

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    now = REFRESH_AFTER + 1.0
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert look(keys, "ed", False)
    jwks.publish(jwk(OTHER, "next"))
    now += FETCH_AGAIN
    assert look(keys, "next", False)


def test_keys_that_are_for_nothing_here_are_left_out(jwks: Jwks) -> None:
    """And take no other key with them."""
    jwks.publish(
        {**jwk(ED, "none"), "alg": "none"},
        {**jwk(RSA, "enc", "RS256"), "use": "enc"},
        {**jwk(ED, "ed"), "use": "sig"},
    )
    keys = KeySet(jwks.url)
    assert [look(keys, kid, False) for kid in ("ed", "none", "enc")] == [True, False, False]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_fetches_for_itself(jwks: Jwks) -> None:
    """The thread that fetches is not in the child, which must not wait for it."""
    keys = KeySet(jwks.url)
    jwks.hold.clear()
    keys._fetch()
    child = os.fork()
    if not child:
        keys._asked_at = float("-inf")
        fetching = keys._fetch()
        os._exit(0 if fetching is not None and keys._fetching is fetching else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    jwks.hold.set()


def test_a_slow_server_of_keys_holds_nobody_for_long(
    jwks: Jwks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits gives up; the fetch goes on."""
    monkeypatch.setattr(keys_module, "WAIT", 0.05)
    keys = KeySet(jwks.url)
    jwks.hold.clear()
    started = time.monotonic()
    with pytest.raises(BackendUnavailable):
        look(keys, "ed", False)
    with pytest.raises(BackendUnavailable):
        look(keys, "ed", True)
    assert time.monotonic() - started < 2
    jwks.hold.set()
