"""contrib.testing: each test has a limiter of its own, and the time."""

import json
import os
import subprocess
import sys
import unittest
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from django.test import AsyncClient, Client, SimpleTestCase, TestCase, override_settings

from rustauth_django import RateLimitRule, rate_limit_store, secondary_storage
from rustauth_django.connections import get_guard, get_stores
from rustauth_django.contrib.testing import RateLimits, RateLimitTestMixin, fresh_rate_limits

from .servers import Server

pytest_plugins = ["rustauth_django.contrib.testing"]

ROOT = Path(__file__).parent.parent
SIGN_IN = "/api/auth/sign-in/email"


class Cases(RateLimitTestMixin):
    """What holds in every kind of test case."""

    def setUp(self) -> None:
        super().setUp()
        rate_limit_store.consume("from setUp", RateLimitRule(60, 9))

    def spend(self) -> None:
        rule = RateLimitRule(60, 1, "sliding-log")
        assert rate_limit_store.peek("from setUp", RateLimitRule(60, 9)).remaining == 8
        assert rate_limit_store.consume("key", rule).permitted
        assert not rate_limit_store.consume("key", rule).permitted
        self.rate_limits.clock.advance(60)
        assert rate_limit_store.consume("key", rule).permitted


class TestOfDjango(Cases, TestCase):
    def test_once(self) -> None:
        """A limit is full after one, and empty after its window."""
        self.spend()

    def test_once_more(self) -> None:
        """Of what another test has spent, nothing is left."""
        self.spend()

    def test_a_page(self) -> None:
        """The site's limits are on, and go by the clock of the test."""
        codes = [self.client.post(SIGN_IN).status_code for _ in range(4)]
        assert codes == [200, 200, 200, 429]
        self.rate_limits.clock.advance(10.001)
        assert self.client.post(SIGN_IN).status_code == 200

    async def test_a_page_awaited(self) -> None:
        """And so with the async client."""
        client: AsyncClient = self.async_client
        codes = [(await client.post(SIGN_IN)).status_code for _ in range(4)]
        assert codes == [200, 200, 200, 429]

    @override_settings(RUSTAUTH={"RATE_LIMIT": {"MAX": 1}})
    def test_a_page_under_other_settings(self) -> None:
        """What a test says of the limits holds in its memory, by its clock."""
        assert [self.client.get("/items/").status_code for _ in range(2)] == [200, 429]
        self.rate_limits.clock.advance(10.001)
        assert self.client.get("/items/").status_code == 200
        assert get_stores().backend is self.rate_limits.stores.backend


class TestWithoutDatabase(SimpleTestCase, Cases):
    def test_once(self) -> None:
        """In whichever order it is mixed in."""
        self.spend()


class TestOfUnittest(Cases, unittest.IsolatedAsyncioTestCase):
    async def test_once(self) -> None:
        """On a loop too."""
        self.spend()
        assert (
            await rate_limit_store.apeek("key", RateLimitRule(60, 1, "sliding-log"))
        ).remaining == 0


@pytest.mark.parametrize("turn", [1, 2])
def test_the_fixture(rate_limits: RateLimits, turn: int) -> None:
    """The same for pytest: full after three, empty for the next test."""
    codes = [Client().post(SIGN_IN).status_code for _ in range(4)]
    assert codes == [200, 200, 200, 429]
    rate_limits.clock.advance(10)
    assert Client().post(SIGN_IN).status_code == 429
    rate_limits.clock.now_ms += 1
    assert Client().post(SIGN_IN).status_code == 200


def test_its_stores_are_those_of_the_app(rate_limits: RateLimits) -> None:
    """The test may look at what the site did, and prepare what it will find."""
    secondary_storage.set("key", "value", ttl=5)
    assert rate_limits.stores.secondary_storage.ttl("key") == 5
    rate_limits.clock.advance(5)
    assert secondary_storage.get("key") is None
    rate_limits.stores.rate_limit_store.consume("127.0.0.1|/sign-in/email", RateLimitRule(10, 3))
    assert Client().post(SIGN_IN).headers["RateLimit"] == '"sign-in";r=1;t=10'


def test_limits_are_on_even_where_tests_switch_them_off(settings: Any) -> None:
    """Who asks for a limiter wants one; who then sets ENABLED is heard."""
    settings.RUSTAUTH = {"RATE_LIMIT": {"ENABLED": False}}
    with fresh_rate_limits() as rate_limits:
        assert get_guard().options.enabled
        backend = rate_limits.stores.backend
        settings.RUSTAUTH = {"RATE_LIMIT": {"ENABLED": False}, "KEY_PREFIX": "other:"}
        assert not get_guard().options.enabled
        assert get_stores().backend is backend
    assert not get_guard().options.enabled


def test_what_was_before_comes_back(dead_url: str) -> None:
    """Whatever the block has done, and nothing of the site's is asked."""
    with override_settings(RUSTAUTH={"URL": dead_url}):
        before = get_stores()
        with suppress(ZeroDivisionError), fresh_rate_limits():
            assert rate_limit_store.consume("key", RateLimitRule(60, 1)).permitted
            assert 1 / 0
        assert get_stores() is before


def test_the_mixin_needs_no_pytest() -> None:
    """Projects that test with Django alone do not have it."""
    code = "import sys; sys.modules['pytest'] = None; import rustauth_django.contrib.testing"
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=env, timeout=60)


SITE = """
import django, json, logging, sys
from django.conf import settings
from django.test.utils import override_settings, setup_test_environment, teardown_test_environment

url, other, kind = sys.argv[1:]
log = []

class Handler(logging.Handler):
    def emit(self, record):
        log.append(record.getMessage())

rustauth = {"url": {"URL": url}, "cache": {"CACHE": "default"}}[kind]
settings.configure(
    RUSTAUTH=rustauth, SECRET_KEY="x", INSTALLED_APPS=["rustauth_django"], DATABASES={},
    CACHES={"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": url}},
)
django.setup()
logging.getLogger("rustauth_django").addHandler(Handler())
from rustauth_django import secondary_storage as storage

def seen():
    return [storage.get("where"), len(log)]

storage.set("where", "real", 60)
found = {"before": seen()}
setup_test_environment()
found["empty"] = seen()
storage.set("where", "memory", 60)
found["memory"] = seen()
with override_settings(DEBUG=True):
    found["debug"] = seen()
with override_settings(RUSTAUTH={"URL": url}):
    found["override"] = seen()
    with override_settings(RUSTAUTH={"URL": "memory://"}):
        found["nested"] = seen()
found["again"] = seen()
teardown_test_environment()
found["after"] = seen()
setup_test_environment()
settings.RUSTAUTH = rustauth | {"TEST": {"URL": other}}
with override_settings(RUSTAUTH=rustauth):
    pass
storage.set("where", "other", 60)
found["other"] = seen()
teardown_test_environment()
print(json.dumps(found))
"""


@pytest.mark.parametrize("kind", ["url", "cache"])
def test_tests_do_not_touch_the_server_of_the_settings(one_server: Server, kind: str) -> None:
    """Once Django's test environment is set up, unless a test or RUSTAUTH["TEST"] says so."""
    url, other = f"{one_server.plain_url[:-1]}7", f"{one_server.plain_url[:-1]}8"
    done = subprocess.run(
        [sys.executable, "-c", SITE, url, other, kind], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "before": ["real", 0],
        "empty": [None, 1],
        "memory": ["memory", 1],
        "debug": ["memory", 1],
        "override": ["real", 1],
        "nested": [None, 1],
        "again": ["memory", 1],
        "after": ["real", 1],
        "other": ["other", 1],
    }
    with redis.Redis.from_url(other) as raw:
        assert raw.get("rustauth:secondary:where") == b"other"
