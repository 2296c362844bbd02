"""Django beside the real RustAuth: who is signed in, who no longer is, and one bucket for both."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from rustauth_django import RateLimitRule, RustAuthStores

from .faces import Face
from .peer_site import MIDDLEWARE
from .rustauth_service import RustAuthService, install
from .servers import BINARIES, Server
from .services import SECRET, require
from .site import Site

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

COOKIE = "rustauth.session_token"
PAGES = ("/who", "/awho", "/rest", "/api/who", "/api/awho")


@pytest.fixture(scope="module")
def valkey() -> Iterator[Server]:
    require(install)
    with Server(next(iter(BINARIES))) as server:
        yield server


@pytest.fixture
def service(valkey: Server, prefix: str) -> Iterator[RustAuthService]:
    with RustAuthService(valkey.plain_url, prefix) as service:
        yield service


@pytest.fixture
def site(valkey: Server, prefix: str, runner: asyncio.Runner | None) -> Iterator[Site]:
    """A site on the same keys, whose users are made when first seen."""
    site = Site(valkey.url, prefix, runner, ROOT_URLCONF="tests.peer_site", MIDDLEWARE=MIDDLEWARE)
    user = "tests.peer_site.auser_for" if runner else "tests.peer_site.user_for"
    peer = {"STACK": "rustauth", "VIA": "redis", "SECRET": SECRET}
    site.base["PEERS"] = {"rust": {**peer, "KEY_PREFIX": prefix, "USER": user}}
    site.configure()
    yield site
    site.close()


def test_django_knows_who_is_signed_in_there(service: RustAuthService, site: Site) -> None:
    """In views, sync and async, in DRF and in ninja; by the cookie and by its value as a bearer."""
    signed_up = service.sign_up("ada")
    user_id = signed_up.body["user"]["id"]
    value = signed_up.cookies[COOKIE]
    assert "%" not in value
    for page in PAGES:
        found = site.get(page, cookie=f"{COOKIE}={value}").json()
        assert found["user"] == found["user_id"] == user_id, page
        assert found["session_id"]
        assert site.get(page, authorization=f"Bearer {value}").json()["user"] == user_id
    assert site.get("/who", cookie=f"{COOKIE}={signed_up.body['token']}").json()["user"] == ""


@pytest.mark.parametrize("path", ["/sign-out", "/revoke-sessions", "/revoke-other-sessions"])
def test_what_ends_there_ends_here(service: RustAuthService, site: Site, path: str) -> None:
    """With the next request."""
    both = [service.sign_up("ada"), service.sign_in("ada")]
    sent = [f"{COOKIE}={one.cookies[COOKIE]}" for one in both]
    assert all(site.get("/who", cookie=one).json()["user"] for one in sent)
    assert service.call(path, {}, both[0].cookies).status == 200
    alive = [bool(site.get("/who", cookie=one).json()["user"]) for one in sent]
    assert (
        alive
        == {
            "/sign-out": [False, True],
            "/revoke-sessions": [False, False],
            "/revoke-other-sessions": [True, False],
        }[path]
    )


def test_both_count_in_one_bucket(
    service: RustAuthService, valkey: Server, prefix: str, runner: asyncio.Runner | None
) -> None:
    """RL-10: what one of them has let through, the other one knows of, to the last."""
    path, rule = "/get-session", RateLimitRule(window=10, max=100)
    name = f"127.0.0.1|{path}"
    with RustAuthStores.from_url(valkey.url, key_prefix=prefix) as stores:
        limits: Any = Face(stores.rate_limit_store, runner)
        for there in range(1, 4):
            assert service.call(path).status == 200
            assert limits.peek(name, rule).remaining == rule.max - there
        for here in range(rule.max - there):
            assert limits.consume(name, rule).remaining == rule.max - there - here - 1
        refused = service.call(path)
        assert refused.status == 429
        assert not limits.consume(name, rule).permitted
        wait = int(refused.headers["x-retry-after"])
        assert 0 <= limits.peek(name, rule).retry_after - wait <= 1
        if runner:
            runner.run(stores.aclose())
