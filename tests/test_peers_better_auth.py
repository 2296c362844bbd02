"""Django beside the real Better Auth, in both versions: who is signed in, and who no longer is."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User

from .better_auth import VERSIONS, BetterAuth, install
from .peer_site import MIDDLEWARE
from .servers import BINARIES, Server
from .services import PASSWORD, SECRET, Reply, require
from .site import Site

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

COOKIE = "better-auth.session_token"
PAGES = ("/who", "/awho", "/rest", "/api/who", "/api/awho")


@pytest.fixture(scope="module")
def valkey() -> Iterator[Server]:
    require(install)
    with Server(next(iter(BINARIES))) as server:
        yield server


@pytest.fixture(scope="module", params=VERSIONS)
def service(request: pytest.FixtureRequest, valkey: Server) -> Iterator[BetterAuth]:
    with BetterAuth(request.param, valkey.plain_url, "better-auth:") as service:
        yield service


@pytest.fixture(params=["jwt", "redis"])
def via(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def site(
    service: BetterAuth, valkey: Server, via: str, prefix: str, runner: asyncio.Runner | None
) -> Iterator[Site]:
    yield from peer_site(service, valkey, prefix, runner, via)


def peer_site(
    service: BetterAuth,
    valkey: Server,
    prefix: str,
    runner: asyncio.Runner | None,
    via: str,
    **peer: Any,
) -> Iterator[Site]:
    """A site with one peer, whose users are made when first seen."""
    more = {"ISSUER": service.url} if via == "jwt" else {"SECRET": SECRET}
    site = Site(valkey.url, prefix, runner, ROOT_URLCONF="tests.peer_site", MIDDLEWARE=MIDDLEWARE)
    user = "tests.peer_site.auser_for" if runner else "tests.peer_site.user_for"
    site.base["PEERS"] = {"app": {"STACK": "better-auth", "VIA": via, "USER": user, **more, **peer}}
    site.configure()
    yield site
    site.close()


def credentials(service: BetterAuth, signed_in: Reply, via: str) -> dict[str, str]:
    """The headers with which a browser, or a program, comes to Django."""
    if via == "jwt":
        token = service.call("/token", cookies=signed_in.cookies).body["token"]
        return {"authorization": f"Bearer {token}"}
    return {"cookie": f"{COOKIE}={signed_in.cookies[COOKIE]}"}


def name(prefix: str) -> str:
    return prefix.replace(":", "-").strip("-")


def test_django_knows_who_is_signed_in_there(
    service: BetterAuth, site: Site, via: str, prefix: str
) -> None:
    """In views, sync and async, in DRF and in ninja."""
    signed_up = service.sign_up(name(prefix))
    user_id = signed_up.body["user"]["id"]
    sent = credentials(service, signed_up, via)
    for page in PAGES:
        reply = site.get(page, **sent)
        assert reply.status_code == 200, (page, reply.content)
        found = reply.json()
        assert found["user"] == found["user_id"] == user_id, page
        assert found["peer"] == "app"
        assert (found["session_id"] is None) == (via == "jwt")
    assert User.objects.count() == 1
    assert site.get("/who").json()["user"] == ""
    assert site.get("/rest").json()["user"] == ""
    assert site.get("/api/who").status_code == 401


def test_the_signed_token_is_a_bearer_too(
    service: BetterAuth, valkey: Server, prefix: str, runner: asyncio.Runner | None
) -> None:
    """As the bearer plugin hands it out; the bare token is nobody (PEER-17)."""
    for site in peer_site(service, valkey, prefix, runner, "redis"):
        signed_up = service.sign_up(name(prefix))
        token = signed_up.headers["set-auth-token"]
        found = site.post("/exempt", authorization=f"Bearer {token}").json()
        assert found["user_id"] == signed_up.body["user"]["id"]
        bare = token.partition(".")[0]
        assert site.get("/who", authorization=f"Bearer {bare}").json()["user"] == ""


@pytest.mark.parametrize("way", ["sign-out", "revoke", "password", "ban"])
def test_what_ends_there_ends_here(
    service: BetterAuth, valkey: Server, prefix: str, runner: asyncio.Runner | None, way: str
) -> None:
    """With the server shared, Django's next request is a visitor's."""
    for site in peer_site(service, valkey, prefix, runner, "redis"):
        both = [service.sign_up(name(prefix)), service.sign_in(name(prefix))]
        sent = [credentials(service, one, "redis") for one in both]
        assert all(site.get("/who", **one).json()["user"] for one in sent)
        end(service, way, both[0], name(f"admin-{prefix}"))
        alive = {"sign-out": [False, True], "password": [None, False]}.get(way, [False, False])
        for one, is_alive in zip(sent, alive, strict=True):
            if is_alive is not None:
                assert bool(site.get("/who", **one).json()["user"]) is is_alive


def end(service: BetterAuth, way: str, signed_in: Reply, administrator: str) -> None:
    """End sessions as a user, or an administrator, does it there."""
    body: dict[str, Any] = {}
    cookies = signed_in.cookies
    if way == "ban":
        user_id = service.sign_up(administrator).body["user"]["id"]
        service.make_admin(user_id)
        cookies = service.sign_in(administrator).cookies
        body = {"userId": signed_in.body["user"]["id"]}
    elif way == "password":
        passwords = {"currentPassword": PASSWORD, "newPassword": "another horse 2"}
        body = {**passwords, "revokeOtherSessions": True}
    path = {
        "sign-out": "/sign-out",
        "revoke": "/revoke-sessions",
        "password": "/change-password",
        "ban": "/admin/ban-user",
    }[way]
    reply = service.call(path, body, cookies)
    assert reply.status == 200, reply


def test_what_a_refresh_puts_back_stays_revoked(
    service: BetterAuth, valkey: Server, prefix: str, runner: asyncio.Runner | None
) -> None:
    """PEER-08: since 1.7.16 there is a mark; before, nobody can know."""
    for site in peer_site(service, valkey, prefix, runner, "redis"):
        signed_up = service.sign_up(name(prefix))
        sent = credentials(service, signed_up, "redis")
        key = "better-auth:" + signed_up.body["token"]
        with valkey.client() as raw:
            record = raw.get(key)
            end(service, "revoke", signed_up, "")
            raw.set(key, record, ex=3600)
        is_alive = bool(site.get("/who", **sent).json()["user"])
        assert is_alive is (service.version == "1.6.9")


def test_a_token_counts_until_it_expires(
    service: BetterAuth, valkey: Server, prefix: str, runner: asyncio.Runner | None
) -> None:
    """Nothing that happens there is known here before that."""
    for site in peer_site(service, valkey, prefix, runner, "jwt"):
        signed_up = service.sign_up(name(prefix))
        sent = credentials(service, signed_up, "jwt")
        end(service, "revoke", signed_up, "")
        assert site.get("/who", **sent).json()["user"] == signed_up.body["user"]["id"]


def test_the_cookie_cache_is_a_token(
    valkey: Server, prefix: str, runner: asyncio.Runner | None
) -> None:
    """PEER-20: of 1.7, if the site wants it; neither kind passes for the other."""
    options = {
        "pluginOptions": {"jwt": {"sessionCookieCache": True}},
        "session": {"cookieCache": {"enabled": True, "strategy": "jwt", "maxAge": 300}},
    }
    cookie = "better-auth.session_data"
    with BetterAuth(VERSIONS[-1], valkey.plain_url, prefix, **options) as service:
        for site in peer_site(service, valkey, prefix, runner, "jwt", CACHE_COOKIE=cookie):
            signed_up = service.sign_up(name(prefix))
            cached = signed_up.cookies[cookie]
            found = site.get("/who", cookie=f"{cookie}={cached}").json()
            assert found["user"] == signed_up.body["user"]["id"]
            assert found["session_id"]
            token = credentials(service, signed_up, "jwt")["authorization"].removeprefix("Bearer ")
            assert site.get("/who", cookie=f"{cookie}={token}").json()["user"] == ""
            assert site.get("/who", authorization=f"Bearer {cached}").json()["user"] == ""
            assert site.get("/who", cookie=f"other={cached}").json()["user"] == ""


def test_only_the_current_secret_signs(
    valkey: Server, prefix: str, runner: asyncio.Runner | None
) -> None:
    """PEER-05: after a rotation there, the old cookies are nobody's in both."""
    new = "another throw-away secret, 9876543210 and more"
    secrets = [{"version": 2, "value": new}, {"version": 1, "value": SECRET}]
    with BetterAuth(VERSIONS[-1], valkey.plain_url, "better-auth:", secrets=secrets) as service:
        for site in peer_site(service, valkey, prefix, runner, "redis", SECRET=new):
            signed_up = service.sign_up(name(prefix))
            sent = credentials(service, signed_up, "redis")
            assert site.get("/who", **sent).json()["user"]
        for site in peer_site(service, valkey, prefix, runner, "redis"):
            assert site.get("/who", **sent).json()["user"] == ""


def test_a_session_of_a_browser_s_length_is_one(
    service: BetterAuth, valkey: Server, prefix: str, runner: asyncio.Runner | None
) -> None:
    """PEER-16, PEER-18: whatever other cookies there are."""
    for site in peer_site(service, valkey, prefix, runner, "redis"):
        service.sign_up(name(prefix))
        signed_in = service.sign_in(name(prefix), rememberMe=False)
        cookies = "; ".join(f"{key}={value}" for key, value in signed_in.cookies.items())
        assert len(signed_in.cookies) > 1
        assert site.get("/who", cookie=cookies).json()["user"] == signed_in.body["user"]["id"]
        others = {key: value for key, value in signed_in.cookies.items() if key != COOKIE}
        cookies = "; ".join(f"{key}={value}" for key, value in others.items())
        assert site.get("/who", cookie=cookies).json()["user"] == ""
