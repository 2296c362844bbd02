"""Finding the session of another stack, by each ``VIA``; the site's own user is left out."""

import base64
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import connection
from django.test import RequestFactory
from jwt.algorithms import OKPAlgorithm

from benchmarks.measuring import Bench, Contender, median, ratio, repeating, take_turns
from benchmarks.report import Bar, Chart, Result, Table
from rustauth_django.conf.peers import DatabasePeer, JwtPeer, RedisPeer
from rustauth_django.conf.peers import Table as TableOf
from rustauth_django.connections import get_stores, run
from rustauth_django.contrib.peers.readers import Reader, RedisReader
from rustauth_django.contrib.peers.tables import DatabaseReader
from rustauth_django.contrib.peers.tokens import JwtReader
from rustauth_django.sessions.records import SessionRecord

BASELINE = "redis-py, INCR"
SECRET = b"a secret of the bench, 0123456789"
TOKEN = "U3zXBMB9SksGpYtH6Hq0YMPOyMJY2dla"
ISSUER = "http://127.0.0.1"


def measure(bench: Bench) -> Result:
    with jwks() as (url, key):
        store(bench)
        contenders = [
            Contender(BASELINE, repeating(lambda: bench.client.incr("plain")), kind="floor"),
            *(Contender(name, repeating(find(*one))) for name, one in readers(url, key).items()),
        ]
        samples = take_turns(contenders, bench.rounds, bench.calls)
    rows, bars = [], []
    for name in [one.name for one in contenders[1:]]:
        found = ratio(samples, name, BASELINE)
        bars.append(Bar(name, found, "ours"))
        rows.append([name, f"{median(samples, name):.1f}", f"{found.median:.2f}", str(found)])
    columns = ["`VIA`", "us", "to `INCR`", "quartiles"]
    axis = "times redis-py's INCR; less is better"
    chart = Chart("peers", "Who is signed in there", axis, bars, BASELINE)
    return Result(Table(columns, rows), [chart])


def readers(url: str, key: Ed25519PrivateKey) -> dict[str, tuple[Reader, str]]:
    """One of each kind, with what a request brings for it."""
    backend, signature = get_stores().backend, (SECRET, "session")
    common: Any = ("peer", "better-auth", "pk", "deny")
    better_auth = RedisPeer(*common, *signature, "better-auth:", None)
    rustauth = RedisPeer("peer", "rustauth", "pk", "deny", *signature, "rustauth:", None)
    tables = TableOf("session", {}), TableOf("user", {})
    by_jwt = JwtPeer(*common, ISSUER, ISSUER, url, None)
    return {
        "jwt": (JwtReader(by_jwt), sign(key)),
        "redis, RustAuth": (RedisReader(rustauth, backend), signed()),
        "redis, Better Auth": (RedisReader(better_auth, backend), signed()),
        "database, SQLite": (
            DatabaseReader(DatabasePeer(*common, *signature, "default", *tables)),
            signed(),
        ),
    }


def find(reader: Reader, bearer: str) -> Callable[[], None]:
    """One look at a request with this token."""
    request = RequestFactory().get("/", headers={"authorization": f"Bearer {bearer}"})

    def call() -> None:
        (credential,) = reader.credentials(request)
        if run(reader.find(credential)) is None:
            raise LookupError("nobody is there")

    return call


def signed() -> str:
    digest = hmac.digest(SECRET, TOKEN.encode(), "sha256")
    return f"{TOKEN}.{base64.b64encode(digest).decode()}"


def sign(key: Ed25519PrivateKey) -> str:
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": ISSUER, "sub": "ada", "iat": now, "exp": now + 86_400}
    return jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": "key"})


def store(bench: Bench) -> None:
    """One session, as each of the stacks has it."""
    now = datetime.now(UTC)
    ends_at = now + timedelta(days=7)
    record = SessionRecord("id", "ada", ends_at, TOKEN, None, None, now, now)
    bench.client.set(f"rustauth:secondary:session:{TOKEN}", record.to_json())
    session = {
        "id": "id",
        "userId": "ada",
        "token": TOKEN,
        "ipAddress": "",
        "userAgent": "",
        "expiresAt": ends_at.isoformat(),
        "createdAt": now.isoformat(),
    }
    user = {"id": "ada", "name": "Ada", "email": "ada@example.com"}
    bench.client.set(f"better-auth:{TOKEN}", json.dumps({"session": session, "user": user}))
    with connection.cursor() as cursor:
        for name, row in (("session", session), ("user", user)):
            columns = ", ".join(f'"{column}" text' for column in row)
            cursor.execute(f'CREATE TABLE "{name}" ({columns})')
            marks = ", ".join(["%s"] * len(row))
            cursor.execute(f'INSERT INTO "{name}" VALUES ({marks})', list(row.values()))


@contextmanager
def jwks() -> Iterator[tuple[str, Ed25519PrivateKey]]:
    """A key, and the address at which its public half is."""
    key = Ed25519PrivateKey.generate()
    public: dict[str, Any] = json.loads(OKPAlgorithm.to_jwk(key.public_key()))
    body = json.dumps({"keys": [{**public, "kid": "key", "alg": "EdDSA"}]}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nowhere."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", key
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
