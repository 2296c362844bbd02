"""Peers whose sessions are made here, byte by byte: what counts, and what is nobody's."""

import asyncio
import base64
import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
import redis
from django.contrib.auth.models import User
from django.test import override_settings

from rustauth_django import BackendUnavailable
from rustauth_django.contrib.peers import PeerSession, authenticate_peer
from rustauth_django.contrib.peers.credentials import Credential
from rustauth_django.sessions.records import SessionRecord

from .peer_site import MIDDLEWARE
from .servers import EACH_SERVER, Server
from .site import Site

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "a secret of the peer's, 0123456789abcdef"
TOKEN = "U3zXBMB9SksGpYtH6Hq0YMPOyMJY2dla"
USER_ID = "j7Oxdju4eV98f1Dpo5H57qTnV0AavbgX"
COOKIE = "better-auth.session_token"
RUST_COOKIE = "rustauth.session_token"
NOBODY = ""
OTHER = "tests.peer_site.sign_in_another"


def signed(token: str = TOKEN, secret: str = SECRET) -> str:
    """A token as both stacks sign it."""
    digest = hmac.digest(secret.encode(), token.encode(), "sha256")
    return f"{token}.{base64.b64encode(digest).decode()}"


def iso(**ahead: float) -> str:
    moment = datetime.now(UTC) + timedelta(**ahead)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def record(session: dict[str, Any] | None = None, **user: Any) -> dict[str, Any]:
    """A record of Better Auth's; a field that is ``...`` is left out."""
    fields = {
        "id": "3cZ2AvYlzJtB6Lup3n5hrlr8TKFl0i7A",
        "ipAddress": "",
        "userAgent": "golden/1.0",
        "expiresAt": iso(days=7),
        "userId": USER_ID,
        "token": TOKEN,
        "createdAt": iso(days=-1),
        "updatedAt": iso(days=-1),
        **(session or {}),
    }
    whole = {"id": USER_ID, "name": "Ada", "banned": False, **user}
    return {"session": without_dots(fields), "user": without_dots(whole)}


def without_dots(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not ...}


class PeerSite(Site):
    """A site beside a peer on the same server."""

    raw: redis.Redis
    key_prefix: str

    def who(self, value: str | None = None, cookie: str = COOKIE, **headers: str) -> str:
        """The user of a request with this cookie."""
        if value is not None:
            headers["cookie"] = f"{cookie}={value}"
        reply = self.get("/who", **headers)
        assert reply.status_code == 200, reply.content
        return str(reply.json()["user"])

    def sign_in_at_django(self, name: str) -> str:
        """The cookies of somebody whom Django has signed in."""
        user = User.objects.create(username=name)
        if self.runner:
            self.runner.run(self.client.aforce_login(user))
        else:
            self.client.force_login(user)
        jar = "; ".join(f"{name}={one.value}" for name, one in self.client.cookies.items())
        self.client.cookies.clear()
        return jar

    def store(self, value: Any, token: str = TOKEN) -> None:
        text = value if isinstance(value, str | bytes) else json.dumps(value)
        self.raw.set(f"{self.key_prefix}ba:{token}", text)

    def peer(self, **peer: Any) -> None:
        """Another configuration of the peer."""
        self.peers(app={"STACK": "better-auth", "VIA": "redis", "SECRET": SECRET, **peer})

    def peers(self, **peers: Any) -> None:
        user = "auser_for" if self.runner else "user_for"
        common = {"USER": f"tests.peer_site.{user}"}
        for peer in peers.values():
            if peer["VIA"] == "redis":
                peer.setdefault("KEY_PREFIX", f"{self.key_prefix}ba:")
        self.base["PEERS"] = {name: {**common, **peer} for name, peer in peers.items()}
        self.configure()


@pytest.fixture
def site(
    server: Server, raw: redis.Redis, prefix: str, runner: asyncio.Runner | None
) -> Iterator[PeerSite]:
    settings = {"ROOT_URLCONF": "tests.peer_site", "MIDDLEWARE": MIDDLEWARE}
    site = PeerSite(server.url, prefix, runner, **settings)
    site.raw, site.key_prefix = raw, prefix
    site.peer()
    yield site
    site.close()


def test_a_session_there_is_a_user_here(site: PeerSite) -> None:
    """PEER-02: percent-encoded as Better Auth sets it, or not; two reads, and nothing written."""
    site.store(record())
    site.raw.config_resetstat()
    assert site.who(quote(signed(), safe="")) == USER_ID
    stats = {name for name in site.raw.info("commandstats") if "config" not in name}
    assert stats & {"cmdstat_get"}
    assert not stats & {"cmdstat_set", "cmdstat_evalsha", "cmdstat_del", "cmdstat_expire"}
    assert site.raw.info("commandstats")["cmdstat_get"]["calls"] == 2
    assert site.who(signed()) == USER_ID
    assert site.who(authorization=f"Bearer {signed()}") == USER_ID
    assert site.who(authorization=f"bearer  {signed()}") == USER_ID


def test_a_request_without_a_credential_costs_nothing(site: PeerSite) -> None:
    """And one whose signature is wrong costs nothing either."""
    site.store(record())
    site.who()
    site.raw.config_resetstat()
    for value in (None, TOKEN, f"{TOKEN}.", signed(secret=SECRET + "x"), "", "x" * 5000):
        assert site.who(value) == NOBODY
    assert "cmdstat_get" not in site.raw.info("commandstats")


@pytest.mark.parametrize(
    "cookies",
    [
        pytest.param("{name}=" + signed()[:-2] + "x=", id="another signature"),
        pytest.param("{name}=" + signed().replace("U3", "u3"), id="another token"),
        pytest.param("{name}=" + signed() + "; {name}=" + signed("x" * 32), id="two that differ"),
        pytest.param("{name}=" + signed("x" * 32) + ";{name}=" + signed(), id="the other way"),
        pytest.param("__Secure-{name}=" + signed(), id="of https"),
        pytest.param("{name}_multi=" + signed(), id="another name"),
        pytest.param("{name}=%FF%FE" + signed(), id="no text"),
        pytest.param("{name}=" + signed("short"), id="too short"),
        pytest.param("{name}=" + signed("x" * 300), id="too long"),
        pytest.param("{name}=" + signed("active-sessions-" + USER_ID), id="another kind of key"),
        pytest.param("{name}=" + signed("a:b:c:d:e:f"), id="colons"),
        pytest.param("{name}=.", id="nothing"),
        pytest.param("\x85{name}=" + signed(), id="no blank of a browser's before the name"),
        pytest.param("{name}\x1f=" + signed(), id="nor behind it"),
        pytest.param('{name}="' + signed() + '"', id="quoted"),
        pytest.param("{name}=" + "\u00e9" * 40 + signed(), id="beyond ASCII"),
    ],
)
def test_a_cookie_that_is_not_one_is_a_visitor_s(site: PeerSite, cookies: str) -> None:
    """PEER-02, PEER-04: never an error, and nobody."""
    site.store(record())
    site.raw.set(f"{site.key_prefix}ba:active-sessions-{USER_ID}", "[]")
    header = cookies.format(name=COOKIE).encode().decode("latin-1")
    reply = site.get("/who", cookie=header)
    assert (reply.status_code, reply.json()["user"]) == (200, NOBODY)


def test_the_same_cookie_twice_is_one(site: PeerSite) -> None:
    """As some proxies send it."""
    site.store(record())
    assert site.get("/who", cookie=f"{COOKIE}={signed()}; {COOKIE}={signed()}").json()["user"]


GOOD: list[Any] = [
    record({"ipAddress": "203.0.113.7", "more": {"a": [1]}}),
    record({"expiresAt": "2999-01-01T00:00:00Z"}),
    record({"expiresAt": "2999-01-01T00:00:00.123456789+02:00"}),
    {**record(), "user": None},
    {"session": record()["session"]},
    record(banned=None),
    record(banned=True, banExpires=iso(days=-1)),
    record(banned=...),
    {"user": record()["user"], "session": record()["session"], "other": 1},
]
BAD: list[Any] = [
    "null",
    "[]",
    "1",
    "",
    '"text"',
    "{",
    b"\xff\xfe",
    "{}",
    '{"session":null}',
    '{"session":[]}',
    "[" * 100_000,
    {**record(), "user": []},
    {**record(), "user": "x"},
    record({"expiresAt": ...}),
    record({"expiresAt": None}),
    record({"expiresAt": "tomorrow"}),
    record({"expiresAt": 1e15}),
    record({"expiresAt": iso(seconds=-1)}),
    record({"token": "x" * 32}),
    record({"token": ...}),
    record({"userId": ...}),
    record({"userId": ""}),
    record({"userId": True}),
    record({"userId": ["x"]}),
    record({"userId": "x" * 300}),
    record({"userId": "another"}),
    record({"id": ...}),
    record(id="another"),
    record(id=...),
    record(banned=True),
    record(banned=True, banExpires=None),
    record(banned=True, banExpires=iso(days=1)),
    record(banned=True, banExpires="soon"),
    json.dumps(record({"userId": "x"}, id="x")).replace('"x"', '"\\ud800"'),
]


@pytest.mark.parametrize("value", GOOD)
def test_a_record_counts(site: PeerSite, value: Any) -> None:
    """PEER-06, PEER-11, PEER-12: with whatever fields."""
    site.store(value)
    assert site.who(signed()) == USER_ID


@pytest.mark.parametrize("value", BAD)
def test_a_record_that_does_not_count_is_nobody_s(site: PeerSite, value: Any) -> None:
    """PEER-09, PEER-10, PEER-12."""
    site.store(value)
    assert site.who(signed()) == NOBODY
    assert not User.objects.exists()


def test_a_key_of_another_type_is_nobody_s(site: PeerSite) -> None:
    """It is somebody else's."""
    site.raw.lpush(f"{site.key_prefix}ba:{TOKEN}", "x")
    assert site.who(signed()) == NOBODY


def test_ids_may_be_numbers(site: PeerSite) -> None:
    """IMP-10."""
    site.store(record({"userId": 7, "id": 8}, id=7))
    assert site.get("/who", cookie=f"{COOKIE}={signed()}").json() == {
        "user": "7",
        "peer": "app",
        "user_id": "7",
        "session_id": "8",
    }


def test_a_mark_revokes_what_began_before(site: PeerSite) -> None:
    """PEER-08: strictly before; a mark that is no number is none."""
    began = datetime(2026, 11, 27, 9, 39, 56, 902_000, tzinfo=UTC)
    site.store(record({"createdAt": "2026-11-27T09:39:56.902Z"}))
    at = int(began.timestamp() * 1000)
    marks = {
        str(at - 1): True,
        str(at): True,
        str(at + 1): False,
        "": True,
        "soon": True,
        "1e15": True,
        "-5": True,
        "9" * 30: True,
        "\u0661": True,
    }
    key = f"{site.key_prefix}ba:revoked-sessions-before-{USER_ID}"
    for mark, is_alive in marks.items():
        site.raw.set(key, mark)
        assert bool(site.who(signed())) is is_alive, mark
    site.raw.set(key, str(at - 1))
    for createdAt in (None, "then", ...):
        site.store(record({"createdAt": createdAt}))
        assert site.who(signed()) == NOBODY


def test_a_session_of_rustauth_s(site: PeerSite) -> None:
    """PEER-03, PEER-15: read raw, and not percent-decoded."""
    site.peers(rust={"STACK": "rustauth", "VIA": "redis", "SECRET": SECRET})
    now = datetime.now(UTC)
    whole = SessionRecord("id", "7", now + timedelta(days=1), TOKEN, "::1", None, now, now)
    key = f"{site.key_prefix}ba:secondary:session:{TOKEN}"

    def who(record: SessionRecord | str, value: str = signed()) -> str:
        site.raw.set(key, record if isinstance(record, str) else record.to_json())
        return site.who(value, RUST_COOKIE)

    assert who(whole) == "7"
    assert who(whole, quote(signed(), safe="")) == NOBODY
    assert who(whole._replace(user_id="")) == NOBODY
    assert who(whole._replace(expires_at=now)) == NOBODY
    assert who(whole._replace(token="x" * 32)) == NOBODY
    assert who("{") == NOBODY
    assert who(json.dumps(record())) == NOBODY
    site.raw.set(key, whole.to_json())
    assert site.who(authorization=f"Bearer {signed()}") == "7"


def test_the_first_peer_that_answers_wins(site: PeerSite) -> None:
    """Each has its own secret; a bearer token may be any of them's."""
    site.peers(
        one={"STACK": "better-auth", "VIA": "redis", "SECRET": SECRET[::-1]},
        two={"STACK": "better-auth", "VIA": "redis", "SECRET": SECRET},
        three={"STACK": "better-auth", "VIA": "redis", "SECRET": SECRET},
    )
    site.store(record())
    for sent in ({"authorization": f"Bearer {signed()}"}, {"cookie": f"{COOKIE}={signed()}"}):
        assert site.get("/who", **sent).json()["peer"] == "two"


def test_secure_cookies_have_another_name(site: PeerSite) -> None:
    """PEER-01: with https, as SESSION_COOKIE_SECURE says unless SECURE does."""
    site.store(record())
    secure = f"__Secure-{COOKIE}"
    site.peer(SECURE=True)
    assert (site.who(signed(), secure), site.who(signed())) == (USER_ID, NOBODY)
    site.peer()
    with override_settings(SESSION_COOKIE_SECURE=True):
        assert (site.who(signed(), secure), site.who(signed())) == (USER_ID, NOBODY)
        site.peer(SECURE=False)
        assert (site.who(signed(), secure), site.who(signed())) == (NOBODY, USER_ID)
    site.peer(COOKIE="my-session")
    assert (site.who(signed(), "my-session"), site.who(signed())) == (USER_ID, NOBODY)


def test_a_storage_without_a_prefix_can_be_read(site: PeerSite) -> None:
    """PEER-07."""
    token = site.key_prefix.replace(":", "x")
    site.peer(KEY_PREFIX="")
    site.raw.set(token, json.dumps(record({"token": token})))
    assert site.who(signed(token)) == USER_ID


def test_a_peer_may_have_a_server_of_its_own(site: PeerSite, server: Server) -> None:
    """Beside the app's."""
    site.base["URL"] = "memory://"
    site.peer(URL=server.url)
    site.store(record())
    assert site.who(signed()) == USER_ID


@pytest.mark.parametrize(
    ("method", "page"),
    [
        *[(method, "/exempt") for method in ("POST", "PUT", "DELETE")],
        *[("POST", page) for page in ("/who", "/rest", "/api/who", "/api/awho")],
    ],
)
def test_a_forged_request_is_nobody_s(site: PeerSite, method: str, page: str) -> None:
    """PEER-21: with a cookie alone; whether the view is exempt or not."""
    site.client.handler.enforce_csrf_checks = True
    site.store(record())
    cookie = f"{COOKIE}={signed()}"
    forged = site.request(method, page, cookie=cookie)
    if page == "/exempt":
        assert (forged.status_code, forged.json()["user"]) == (200, NOBODY)
    else:
        assert forged.status_code == 403, forged.content
    assert not User.objects.exists()
    assert site.get("/exempt", cookie=cookie).json()["user"] == USER_ID
    secret = "a" * 32
    meant = site.request(method, page, cookie=f"{cookie}; csrftoken={secret}", x_csrftoken=secret)
    assert meant.json()["user"] == USER_ID, meant.content
    if page != "/who":  # which Django itself refuses without a token
        by_bearer = site.request(method, page, authorization=f"Bearer {signed()}")
        assert by_bearer.json()["user"] == USER_ID


def test_a_user_of_django_s_stays(site: PeerSite) -> None:
    """Whoever is signed in here is not taken for somebody else there."""
    site.store(record())
    jar = site.sign_in_at_django("ada")
    for page in ("/who", "/awho"):
        found = site.get(page, cookie=f"{jar}; {COOKIE}={signed()}").json()
        assert found == {"user": "ada", "peer": None, "user_id": None, "session_id": None}


def test_a_view_that_is_exempt_has_its_body_to_itself(site: PeerSite) -> None:
    """The middleware reads none of it; the token has to be in the header there."""
    site.client.handler.enforce_csrf_checks = True
    site.store(record())
    cookie = f"{COOKIE}={signed()}; csrftoken={'a' * 32}"
    data = {"csrfmiddlewaretoken": "a" * 32, "x": "1"}
    refused = site.post("/body", data, cookie=cookie)
    assert (refused.status_code, refused.json()["user"]) == (200, NOBODY)
    meant = site.post("/body", data, cookie=cookie, x_csrftoken="a" * 32)
    assert meant.json()["user"] == USER_ID
    assert meant.json()["length"] == refused.json()["length"] > 0


def test_rest_framework_and_ninja_look_at_the_peers_alone(site: PeerSite) -> None:
    """Who is signed in at Django as well is the peer's user there, and Django's everywhere else."""
    site.store(record())
    jar = site.sign_in_at_django("ada")
    sent = {"cookie": jar, "authorization": f"Bearer {signed()}"}
    for page in ("/rest", "/api/who", "/api/awho"):
        assert site.get(page, **sent).json()["user"] == USER_ID, page
    assert site.get("/who", **sent).json()["user"] == "ada"
    assert {"Cookie", "Authorization"} <= set(site.get("/rest").headers["Vary"].split(", "))


def test_who_signs_in_or_out_in_a_view_is_no_longer_the_peer_s(site: PeerSite) -> None:
    """Neither for the rest of the view, nor for whoever asks again."""
    site.store(record())
    for page in ("/in-and-out", "/ain-and-out"):
        site.client.cookies.clear()
        found = site.get(page, cookie=f"{COOKIE}={signed()}").json()
        assert found == [
            *([USER_ID, USER_ID, "app"], ["", "", None]),
            *(["other", "other", None],),
        ]


def test_a_user_of_another_middleware_stays(site: PeerSite) -> None:
    """One that sets ``request.user`` and knows of no other attribute."""
    site.store(record())
    site.overrides.append(override_settings(MIDDLEWARE=[*MIDDLEWARE[:-1], OTHER, MIDDLEWARE[-1]]))
    site.overrides[-1].enable()
    site.client.handler.load_middleware(is_async=site.runner is not None)
    assert site.who(signed()) == "another"


def test_an_outage_is_logged_once(dead_url: str, rf: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever else is brought meanwhile."""
    peer = {"STACK": "better-auth", "VIA": "redis", "SECRET": SECRET, "URL": dead_url}
    with override_settings(RUSTAUTH={"PEERS": {"app": peer}}):
        for value in (signed(), f"{TOKEN}.forged") * 5:
            request = rf.get("/", headers={"cookie": f"{COOKIE}={value}"})
            assert authenticate_peer(request) is None
    assert len(caplog.records) == 1
    assert TOKEN not in caplog.text


def test_a_credential_is_in_no_repr() -> None:
    """Error reports show the variables of each frame."""
    assert TOKEN not in repr(Credential(signed(), is_cookie=True))


def test_no_cache_shows_a_page_to_somebody_else(site: PeerSite) -> None:
    """What depends on who is there depends on both headers that say so; what does not, on none."""
    site.store(record())
    for sent in ({}, {"authorization": f"Bearer {signed()}"}, {"cookie": f"{COOKIE}={signed()}"}):
        for page in ("/who", "/awho"):
            assert {"Cookie", "Authorization"} <= set(
                site.get(page, **sent).headers["Vary"].split(", ")
            )
    assert "Vary" not in site.get("/nobody").headers


def test_a_cached_page_is_its_own_user_s(site: PeerSite, settings: Any) -> None:
    """With Django's cache of the whole site before everything."""
    site.store(record())
    site.store(record({"token": "x" * 32, "userId": "eve"}, id="eve"), token="x" * 32)
    caching = "django.middleware.cache."
    settings.MIDDLEWARE = [
        caching + "UpdateCacheMiddleware",
        *MIDDLEWARE,
        caching + "FetchFromCacheMiddleware",
    ]
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "LOCATION": site.key_prefix,
        }
    }
    site.client.handler.load_middleware(is_async=site.runner is not None)
    for _ in range(2):
        assert site.who(authorization=f"Bearer {signed()}") == USER_ID
        assert site.who(authorization=f"Bearer {signed('x' * 32)}") == "eve"
        assert site.who() == NOBODY
        assert site.who(signed()) == USER_ID


def test_users_are_found_as_the_setting_says(site: PeerSite) -> None:
    """By their primary key, by a field, or by a function; exactly, and only if they are active."""
    ada = User.objects.create(pk=7, username=USER_ID, email="ada@example.com")
    numbered = record({"userId": "7"}, id="7")

    def who(value: Any, **peer: Any) -> str:
        site.store(value)
        site.peer(**peer)
        return site.who(signed())

    assert who(numbered, USER="pk") == USER_ID
    for user_id in ("007", " 7", "7.0", "\u0667", "x", "9" * 40, "-7", "7\x00"):
        assert who(record({"userId": user_id}, id=user_id), USER="pk") == NOBODY, user_id
    assert who(record(), USER="pk") == NOBODY
    assert who(record(), USER="field:username") == USER_ID
    swapped = record({"userId": USER_ID.swapcase()}, id=USER_ID.swapcase())
    assert who(swapped, USER="field:username") == NOBODY
    User.objects.create(pk=8, username="other", email="ada@example.com")
    two = record({"userId": "ada@example.com"}, id="ada@example.com")
    assert who(two, USER="field:email") == NOBODY
    assert who(record(), USER="tests.peer_site.no_user_for") == NOBODY
    assert who(record(), USER="tests.peer_site.user_for") == USER_ID
    assert who(record(), USER="tests.peer_site.auser_for") == USER_ID
    ada.is_active = False
    ada.save()
    for user in ("field:username", "tests.peer_site.user_for"):
        assert who(record(), USER=user) == NOBODY
    assert who(numbered, USER="pk") == NOBODY


@pytest.mark.parametrize("name", EACH_SERVER)
def test_a_peer_that_is_away(name: str, prefix: str, runner: asyncio.Runner | None) -> None:
    """Everybody is a visitor, or nobody is served, as ON_ERROR says; and both end with it."""
    with Server(name) as server, redis.Redis(port=server.port, db=0) as raw:
        settings = {"ROOT_URLCONF": "tests.peer_site", "MIDDLEWARE": MIDDLEWARE}
        site = PeerSite("memory://", prefix, runner, **settings)
        site.raw, site.key_prefix = raw, prefix
        site.peer(URL=server.plain_url)
        site.store(record())
        assert site.who(signed()) == USER_ID
        server.kill()
        assert site.who(signed()) == NOBODY
        site.peer(URL=server.plain_url, ON_ERROR="deny")
        for page in ("/who", "/rest", "/api/who", "/api/awho"):
            reply = site.get(page, cookie=f"{COOKIE}={signed()}")
            assert reply.status_code == 503, page
        assert site.get("/who", cookie=f"{COOKIE}={signed()}").headers["Retry-After"] == "1"
        assert site.who(f"{TOKEN}.forged") == NOBODY
        server.start()
        site.store(record())
        assert site.who(signed()) == USER_ID
        site.close()


def test_a_call_without_the_middleware(site: PeerSite, rf: Any) -> None:
    """It sets what the middleware sets, and says who it is."""
    site.store(record())
    site.peer(USER="tests.peer_site.user_for")
    request = rf.get("/", headers={"cookie": f"{COOKIE}={signed()}"})
    session = authenticate_peer(request)
    assert isinstance(session, PeerSession)
    assert request.peer_session is session
    assert request.user.username == session.user_id == USER_ID
    assert session.user_agent == "golden/1.0"
    assert session.ip_address is None
    assert session.claims["name"] == "Ada"
    assert authenticate_peer(request) is session
    assert TOKEN not in repr(session)
    assert "Ada" not in repr(session)
    nobody = rf.get("/")
    assert authenticate_peer(nobody) is None
    assert nobody.peer_session is None


def test_an_outage_is_told_to_whoever_asks(rf: Any, dead_url: str) -> None:
    """If nobody is to be served then."""
    peer = {"STACK": "better-auth", "VIA": "redis", "SECRET": SECRET, "URL": dead_url}
    request = rf.get("/", headers={"cookie": f"{COOKIE}={signed()}"})
    with override_settings(RUSTAUTH={"PEERS": {"app": peer}}):
        assert authenticate_peer(request) is None
    with (
        override_settings(RUSTAUTH={"PEERS": {"app": {**peer, "ON_ERROR": "deny"}}}),
        pytest.raises(BackendUnavailable),
    ):
        authenticate_peer(request)
