"""contrib.ninja: django-ninja's throttles by their names, on our counters."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import path
from ninja import NinjaAPI, throttling
from ninja.decorators import decorate_view
from ninja.security import APIKeyHeader
from ninja.testing import TestClient

from rustauth_django.contrib.ninja import (
    AnonRateThrottle,
    AuthRateThrottle,
    SimpleRateThrottle,
    UserRateThrottle,
)
from rustauth_django.contrib.testing import RateLimits
from rustauth_django.decorators import rate_limit
from rustauth_django.signals import rate_limited

from .servers import Server

pytest_plugins = ["rustauth_django.contrib.testing"]


class Key(APIKeyHeader):
    param_name = "X-Key"

    def authenticate(self, request: HttpRequest, key: str | None) -> str | None:
        return key


api = NinjaAPI(urls_namespace="throttled")


@api.get("/sync", throttle=AnonRateThrottle("3/m"))
def sync_operation(request: HttpRequest) -> str:
    return "ok"


@api.get("/async", throttle=[AnonRateThrottle("3/m")])
async def async_operation(request: HttpRequest) -> str:
    return "ok"


@api.get("/key", auth=Key(), throttle=[AnonRateThrottle("1/m"), AuthRateThrottle("2/m")])
def key_operation(request: HttpRequest) -> str:
    return "ok"


@api.get("/decorated")
@decorate_view(rate_limit("2/m", scope="decorated"))
async def decorated_operation(request: HttpRequest) -> str:
    return "ok"


urlpatterns = [path("", api.urls)]


@pytest.fixture
def get(runner: asyncio.Runner | None) -> Iterator[Callable[..., Any]]:
    """``get(path, **headers)`` of the site, under WSGI or under ASGI."""
    with override_settings(ROOT_URLCONF=__name__):
        if runner is None:
            yield lambda path, **headers: Client().get(path, headers=headers)
        else:
            yield lambda path, **headers: runner.run(AsyncClient().get(path, headers=headers))


def request(**meta: str) -> HttpRequest:
    """A request that a throttle is asked about by itself."""
    return RequestFactory().get("/", **meta)


@pytest.mark.parametrize("path", ["/sync", "/async"])
def test_operations_of_both_kinds(
    get: Callable[..., Any], server: Server, prefix: str, path: str
) -> None:
    """Three pass, the fourth is django-ninja's 429 with every header, under both protocols."""
    rustauth = {"URL": server.url, "KEY_PREFIX": prefix, "RATE_LIMIT": {"ENABLED": True}}
    with override_settings(RUSTAUTH=rustauth):
        for remaining in (2, 1, 0):
            response = get(path)
            assert response.status_code == 200
            assert response.headers["RateLimit"].startswith(f'"anon";r={remaining};t=')
        response = get(path)
    assert response.status_code == 429
    assert response.json() == {"detail": "Too many requests."}
    assert response.headers["RateLimit-Policy"] == '"anon";q=3;w=60'
    assert response.headers["Retry-After"] in ("59", "60")


def test_the_decorator_is_for_async_operations(
    get: Callable[..., Any], rate_limits: RateLimits
) -> None:
    """It does not hold the loop, and says the same."""
    assert [get("/decorated").status_code for _ in range(3)] == [200, 200, 429]


def test_requests_with_auth_count_by_it(get: Callable[..., Any], rate_limits: RateLimits) -> None:
    """And not by their address."""
    assert [get("/key", X_Key="a").status_code for _ in range(3)] == [200, 200, 429]
    assert get("/key", X_Key="b").status_code == 200


def test_they_are_django_ninja_s_own(rate_limits: RateLimits) -> None:
    """By class, and by the rates of NINJA_DEFAULT_THROTTLE_RATES."""
    for ours in (SimpleRateThrottle, AnonRateThrottle, AuthRateThrottle, UserRateThrottle):
        assert issubclass(ours, getattr(throttling, ours.__name__))
    assert AnonRateThrottle().rate == throttling.AnonRateThrottle().rate
    assert AuthRateThrottle.THROTTLE_RATES is throttling.AuthRateThrottle.THROTTLE_RATES


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        ("5/m", (5, 60)),
        ("10/10s", (10, 10)),
        ("10/2day", (10, 172_800)),
        ("3/15", (3, 15)),
        ("100/week", (100, 604_800)),
    ],
)
def test_rates(rate: str, expected: tuple[int, int]) -> None:
    """Theirs and ours."""
    throttle = AnonRateThrottle(rate)
    assert (throttle.num_requests, throttle.duration) == expected


def test_what_is_no_rate_is_an_error() -> None:
    """As soon as it is written."""
    with pytest.raises(ValueError, match="Invalid rate format: 5/fortnight"):
        AnonRateThrottle("5/fortnight")


def test_wait_is_exact(rate_limits: RateLimits) -> None:
    """To the millisecond."""
    throttle = UserRateThrottle("2/m")
    asking: Any = request()
    asking.user = None
    assert throttle.allow_request(asking)
    rate_limits.clock.advance(15.5)
    assert throttle.allow_request(asking)
    assert throttle.wait() is None
    assert not throttle.allow_request(asking)
    assert throttle.wait() == 44.5
    rate_limits.clock.advance(44.5)
    assert throttle.allow_request(asking)


def test_one_throttle_serves_many_threads(rate_limits: RateLimits) -> None:
    """Each hears of its own request."""
    throttle = AnonRateThrottle("1/m")
    both = Barrier(2)

    def ask(address: str, count: int) -> float | None:
        for _ in range(count):
            throttle.allow_request(request(REMOTE_ADDR=address))
        both.wait()
        return throttle.wait()

    with ThreadPoolExecutor(2) as pool:
        waits = pool.map(ask, ["192.0.2.1", "192.0.2.2"], [1, 2])
    assert list(waits) == [None, 60]


def test_their_test_client(rate_limits: RateLimits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its requests never pass a middleware, or are not even requests."""
    monkeypatch.setenv("NINJA_SKIP_REGISTRY", "1")
    tested = NinjaAPI(throttle=UserRateThrottle("1/m"), urls_namespace="tested")

    @tested.get("/")
    def operation(request: HttpRequest) -> str:
        return "ok"

    client = TestClient(tested)
    assert [client.get("/").status_code for _ in range(2)] == [200, 429]
    rate_limits.clock.advance(60)
    assert client.get("/").status_code == 200


@pytest.mark.parametrize("path", ["/sync", "/async"])
def test_what_is_the_site_s_may_be_async(
    get: Callable[..., Any], rate_limits: RateLimits, path: str
) -> None:
    """Receivers and lists that are functions; django-ninja awaits neither."""
    heard = []

    async def hear(*, name: str, **kwargs: Any) -> None:
        heard.append(name)

    async def is_allowed(request: HttpRequest) -> bool:
        return "X-Allowed" in request.headers

    rate_limited.connect(hear)
    try:
        with override_settings(RUSTAUTH={"RATE_LIMIT": {"ALLOW": is_allowed}}):
            assert [get(path).status_code for _ in range(4)] == [200, 200, 200, 429]
            assert get(path, X_Allowed="yes").status_code == 200
    finally:
        rate_limited.disconnect(hear)
    assert heard == ["anon"]


def test_the_settings_of_the_limiter_hold(rate_limits: RateLimits) -> None:
    """Off is off; who is allowed is not counted; who is denied is Django's 403."""
    throttle = AnonRateThrottle("1/m")
    for limits in ({"ENABLED": False}, {"ALLOW": ["127.0.0.1"]}):
        with override_settings(RUSTAUTH={"RATE_LIMIT": limits}):
            assert [throttle.allow_request(request()) for _ in range(2)] == [True, True]
    with (
        override_settings(RUSTAUTH={"RATE_LIMIT": {"DENY": ["127.0.0.1"]}}),
        pytest.raises(PermissionDenied),
    ):
        throttle.allow_request(request())


@pytest.mark.parametrize("path", ["/sync", "/async"])
@pytest.mark.parametrize(
    ("on_error", "expected"), [("local", [200] * 3 + [429]), ("allow", [200] * 4), ("deny", [503])]
)
def test_a_server_that_is_away(
    get: Callable[..., Any], dead_url: str, path: str, on_error: str, expected: list[int]
) -> None:
    """ON_ERROR decides; what was not counted is never called too many."""
    rules = [{"path": "*", "disabled": True}]
    limits = {"ENABLED": True, "ON_ERROR": on_error, "RULES": rules}
    with override_settings(RUSTAUTH={"URL": dead_url, "RATE_LIMIT": limits}):
        responses = [get(path) for _ in expected]
    assert [response.status_code for response in responses] == expected
    if on_error == "deny":
        assert responses[0].headers["Retry-After"] == "1"
