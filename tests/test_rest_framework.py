"""contrib.rest_framework: DRF's throttles by their names, on our counters."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.test import Client, override_settings
from django.urls import path
from rest_framework import throttling
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory, force_authenticate
from rest_framework.views import APIView

from rustauth_django.contrib.rest_framework import (
    AnonRateThrottle,
    ScopedRateThrottle,
    SimpleRateThrottle,
    UserRateThrottle,
)
from rustauth_django.contrib.testing import RateLimits
from rustauth_django.contrib.throttling import rules_of
from rustauth_django.limits.rates import MAX_LOG, RateLimitRule
from rustauth_django.signals import rate_limited

from .servers import Server

pytest_plugins = ["rustauth_django.contrib.testing"]

FACTORY = APIRequestFactory()
ADA, GRACE = User(pk=7, username="ada"), User(pk=8, username="grace")


class Ok(APIView):
    throttle_scope: str | None = None

    def get(self, request: Request) -> Response:
        return Response("ok")


class Anon(Ok):
    class Throttle(AnonRateThrottle):
        rate = "3/min"

    throttle_classes = (Throttle,)


urlpatterns = [path("anon/", Anon.as_view())]


@pytest.fixture
def client() -> Iterator[Client]:
    """A client of a site whose only view is ``Anon``."""
    with override_settings(ROOT_URLCONF=__name__):
        yield Client()


def view_with(*throttles: Any, scope: str | None = None) -> Any:
    """A view that these limit; those that are classes as they are, texts as rates of addresses."""
    classes = [
        type("Throttle", (AnonRateThrottle,), {"rate": one}) if isinstance(one, str) else one
        for one in throttles
    ]
    return Ok.as_view(throttle_classes=classes, throttle_scope=scope)


class Scoped(ScopedRateThrottle):
    THROTTLE_RATES: ClassVar = {"uploads": "2/min", "search": "1/min", "open": None}


def call(view: Any, user: User | None = None, **meta: str) -> Any:
    request = FACTORY.get("/", **meta)
    if user is not None:
        force_authenticate(request, user)
    return view(request)


def statuses(view: Any, count: int, user: User | None = None, **meta: str) -> list[int]:
    return [call(view, user, **meta).status_code for _ in range(count)]


def test_they_are_drf_s_own(monkeypatch: pytest.MonkeyPatch, rate_limits: RateLimits) -> None:
    """By class, and by the dictionary that the rates are read from."""
    assert issubclass(AnonRateThrottle, throttling.AnonRateThrottle)
    assert issubclass(UserRateThrottle, throttling.UserRateThrottle)
    assert issubclass(ScopedRateThrottle, throttling.ScopedRateThrottle)
    rates = throttling.SimpleRateThrottle.THROTTLE_RATES
    assert AnonRateThrottle.THROTTLE_RATES is rates
    monkeypatch.setitem(rates, "anon", "1/min")
    monkeypatch.setitem(rates, "user", "2/min")
    view = view_with(AnonRateThrottle, UserRateThrottle)
    assert statuses(view, 2) == [200, 429]
    assert statuses(view, 3, ADA) == [200, 200, 429]


def test_a_refusal_says_when_to_come_back(client: Client, rate_limits: RateLimits) -> None:
    """DRF's body and every header, with the middleware."""
    for remaining in (2, 1, 0):
        response = client.get("/anon/")
        assert response.status_code == 200
        assert response.headers["RateLimit"] == f'"anon";r={remaining};t=60'
    rate_limits.clock.advance(0.5)
    response = client.get("/anon/")
    assert response.status_code == 429
    assert response.json() == {"detail": "Request was throttled. Expected available in 60 seconds."}
    assert response.headers["RateLimit-Policy"] == '"anon";q=3;w=60'
    assert response.headers["RateLimit"] == '"anon";r=0;t=60'
    assert response.headers["Retry-After"] == response.headers["X-Retry-After"] == "60"
    rate_limits.clock.advance(59.5)
    assert client.get("/anon/").status_code == 200


@override_settings(MIDDLEWARE=[])
def test_without_the_middleware_drf_tells(client: Client, rate_limits: RateLimits) -> None:
    """Retry-After is DRF's doing, from ``wait()``."""
    codes = [client.get("/anon/").status_code for _ in range(3)]
    rate_limits.clock.advance(17.2)
    response = client.get("/anon/")
    assert [*codes, response.status_code] == [200, 200, 200, 429]
    assert response.headers["Retry-After"] == "43"
    assert "RateLimit" not in response.headers


def test_wait_is_exact(rate_limits: RateLimits) -> None:
    """Until the oldest request of the log leaves it, to the millisecond; DRF's divides by hope."""
    throttle = Anon.Throttle()
    request = Request(FACTORY.get("/"))
    for _ in range(3):
        assert throttle.allow_request(request, None)
        assert throttle.wait() is None
        rate_limits.clock.advance(10)
    rate_limits.clock.advance(0.25)
    assert not throttle.allow_request(request, None)
    assert throttle.wait() == 29.75
    rate_limits.clock.advance(29.75)
    assert throttle.allow_request(request, None)
    assert throttle.wait() is None


def test_whoever_follows_the_pace_is_never_refused(rate_limits: RateLimits) -> None:
    """3 in a minute is one in 20 seconds, for ever: refusals are not counted either."""
    view = view_with("3/min")
    for _ in range(9):
        assert call(view).status_code == 200
        rate_limits.clock.advance(20)
    assert statuses(view, 9).count(200) == 1
    rate_limits.clock.advance(20)
    assert call(view).status_code == 200


def test_anonymous_and_users_count_apart(rate_limits: RateLimits) -> None:
    """Anon lets the signed-in pass; User counts by user, then by address."""
    assert statuses(view_with("1/min"), 3, ADA) == [200, 200, 200]

    class PerUser(UserRateThrottle):
        rate = "1/min"

    view = view_with(PerUser)
    assert statuses(view, 2, ADA) == [200, 429]
    assert statuses(view, 2, GRACE) == [200, 429]
    assert statuses(view, 2) == [200, 429]
    assert statuses(view, 2, REMOTE_ADDR="192.0.2.9") == [200, 429]


def test_scopes(rate_limits: RateLimits) -> None:
    """Views of one scope share it, another is another, and without one there is no limit."""
    upload, also = view_with(Scoped, scope="uploads"), view_with(Scoped, scope="uploads")
    assert [call(upload).status_code, call(also).status_code] == [200, 200]
    assert statuses(upload, 1) == statuses(also, 1) == [429]
    assert statuses(view_with(Scoped, scope="search"), 2) == [200, 429]
    assert set(statuses(view_with(Scoped, scope="open"), 9)) == {200}
    assert set(statuses(view_with(Scoped), 9)) == {200}
    with pytest.raises(ImproperlyConfigured, match="'unheard-of'"):
        call(view_with(Scoped, scope="unheard-of"))


def test_every_throttle_of_a_view_is_asked(rate_limits: RateLimits) -> None:
    """After a refusal too, as DRF does it; the longest wait is told."""

    class Sustained(AnonRateThrottle):
        scope = "sustained"
        rate = "3/hour"

    view = view_with("1/min", Sustained)
    assert statuses(view, 3) == [200, 429, 429]
    response = call(view)
    assert response.status_code == 429
    assert response.headers["Retry-After"] == "3600"


def test_several_rates_of_one_throttle_are_all_or_nothing(rate_limits: RateLimits) -> None:
    """What one refuses, the other has not counted."""
    view = view_with("1/min; 2/hour")
    assert statuses(view, 3) == [200, 429, 429]
    rate_limits.clock.advance(60)
    assert statuses(view, 1) == [200]
    rate_limits.clock.advance(60)
    assert call(view).headers["Retry-After"] == str(3600 - 120)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        ("3/s", [(1, 3, "sliding-log")]),
        ("5/min", [(60, 5, "sliding-log")]),
        ("5/minutely", [(60, 5, "sliding-log")]),
        ("20/hours", [(3600, 20, "sliding-log")]),
        ("10/day", [(86_400, 10, "sliding-log")]),
        ("3/10s", [(10, 3, "sliding-log")]),
        ("100/week", [(604_800, 100, "sliding-log")]),
        (f"{MAX_LOG}/d", [(86_400, MAX_LOG, "sliding-log")]),
        (f"{MAX_LOG + 1}/d", [(86_400, MAX_LOG + 1, "fixed-window")]),
        ("10/s burst 20", [(1, 10, "gcra")]),
        ("5/m; 100/d", [(60, 5, "sliding-log"), (86_400, 100, "sliding-log")]),
    ],
)
def test_rates(rate: str, expected: list[tuple[int, int, str]]) -> None:
    """DRF's, by the first letter of the unit, and ours; counted by a log up to its bound."""
    throttle = type("Throttle", (AnonRateThrottle,), {"rate": rate})()
    assert (throttle.duration, throttle.num_requests) == expected[0][:2]
    rules = rules_of(rate, throttle.num_requests, throttle.duration)
    assert [(rule.window, rule.max, rule.algorithm) for rule in rules] == expected
    for rule in rules:
        rule.validate()


@pytest.mark.parametrize("rate", ["", "5", "5/", "x/min", "5/fortnight", "5/m; 6/fortnight"])
def test_what_is_no_rate_stops_the_view(rate: str) -> None:
    """As it does in DRF: no limit is silently none."""
    with pytest.raises((ValueError, LookupError, ImproperlyConfigured)):
        type("Throttle", (AnonRateThrottle,), {"rate": rate, "scope": "other"})()


def test_no_request_at_all(rate_limits: RateLimits) -> None:
    """ "0/day" shuts a view, None opens it."""
    closed = view_with("0/day")
    response = call(closed)
    assert response.status_code == 429
    assert response.headers["Retry-After"] == "86400"
    assert call(closed, ADA).status_code == 200
    no_rate = type("Free", (AnonRateThrottle,), {"THROTTLE_RATES": {"anon": None}})
    assert set(statuses(view_with(no_rate), 9)) == {200}


def test_a_subclass_has_the_last_word(rate_limits: RateLimits) -> None:
    """Its own reading of rates, key, identity and what follows a decision."""
    heard: list[str] = []

    class Own(SimpleRateThrottle):
        scope = "own"
        rate = "1/min"

        def parse_rate(self, rate: str) -> tuple[int, int]:
            return 2, 5

        def get_ident(self, request: Request) -> str:
            return request.headers["X-Device"]

        def get_cache_key(self, request: Request, view: APIView) -> str | None:
            return None if request.headers.get("X-Trusted") else self.get_ident(request)

        def throttle_success(self) -> bool:
            heard.append("success")
            return super().throttle_success()

        def throttle_failure(self) -> bool:
            heard.append("failure")
            return super().throttle_failure()

    view = view_with(Own)
    assert statuses(view, 3, HTTP_X_DEVICE="a") == [200, 200, 429]
    assert heard == ["success", "success", "failure"]
    assert statuses(view, 1, HTTP_X_DEVICE="b") == [200]
    assert set(statuses(view, 9, HTTP_X_DEVICE="a", HTTP_X_TRUSTED="1")) == {200}
    rate_limits.clock.advance(5)
    assert statuses(view, 1, HTTP_X_DEVICE="a") == [200]


def test_a_client_is_known_by_what_can_be_believed(rate_limits: RateLimits) -> None:
    """A header of its own invention changes nothing; that of a proxy of ours does."""
    view = view_with("1/min")
    assert call(view, HTTP_X_FORWARDED_FOR="198.51.100.1").status_code == 200
    assert call(view, HTTP_X_FORWARDED_FOR="198.51.100.2").status_code == 429
    limits = {"IP_HEADERS": ["X-Forwarded-For"], "TRUSTED_PROXIES": ["127.0.0.1"]}
    with override_settings(RUSTAUTH={"RATE_LIMIT": limits}):
        assert call(view, HTTP_X_FORWARDED_FOR="6.6.6.6, 198.51.100.1").status_code == 200
        assert call(view, HTTP_X_FORWARDED_FOR="7.7.7.7, 198.51.100.1").status_code == 429
        assert call(view, HTTP_X_FORWARDED_FOR="198.51.100.2").status_code == 200


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, [429, 429]),
        ({"MISSING_IP": "shared-bucket"}, [200, 429]),
        ({"MISSING_IP": "allow"}, [200, 200]),
        ({"TRACK_IP": False}, [200, 200]),
    ],
)
def test_nobody_in_particular(
    rate_limits: RateLimits, limits: dict[str, Any], expected: list[int]
) -> None:
    """A request without an address is what the settings say it is."""
    view = view_with("1/min")
    with override_settings(RUSTAUTH={"RATE_LIMIT": limits}):
        responses = [call(view, REMOTE_ADDR="") for _ in range(2)]
    assert [response.status_code for response in responses] == expected
    assert responses[1].headers.get("Retry-After") == ("60" if expected[1] == 429 else None)


def test_the_settings_of_the_limiter_hold(rate_limits: RateLimits) -> None:
    """Off is off; who is allowed is not counted, who is denied gets DRF's 403."""
    view = view_with("1/min")
    with override_settings(RUSTAUTH={"RATE_LIMIT": {"ENABLED": False}}):
        assert statuses(view, 2) == [200, 200]
    with override_settings(RUSTAUTH={"RATE_LIMIT": {"ALLOW": ["127.0.0.0/8"]}}):
        assert statuses(view, 2) == [200, 200]
    with override_settings(RUSTAUTH={"RATE_LIMIT": {"DENY": ["127.0.0.0/8"]}}):
        response = call(view)
        assert response.status_code == 403
        assert response.data["detail"].code == "permission_denied"
    assert statuses(view, 2) == [200, 429]


@pytest.mark.parametrize(
    ("on_error", "expected"),
    [("local", [200, 429]), ("allow", [200, 200]), ("deny", [503, 503])],
)
def test_a_server_that_is_away(dead_url: str, on_error: str, expected: list[int]) -> None:
    """ON_ERROR decides; what was not counted is never called too many."""
    limits = {"ENABLED": True, "ON_ERROR": on_error}
    view = view_with("1/min")
    with override_settings(RUSTAUTH={"URL": dead_url, "RATE_LIMIT": limits}):
        responses = [call(view) for _ in range(2)]
    assert [response.status_code for response in responses] == expected
    if on_error == "deny":
        assert responses[0].headers["Retry-After"] == "1"
        assert responses[0].data["detail"].code == "unavailable"


def test_a_refusal_is_told(rate_limits: RateLimits) -> None:
    """The signal has the scope as its name, and the rule that was met."""
    heard: list[Any] = []

    def hear(sender: Any, *, request: Any, decision: Any, name: str, **kwargs: Any) -> None:
        heard.append((request.path, decision.rule, name))

    rate_limited.connect(hear)
    try:
        assert statuses(view_with("1/min"), 2) == [200, 429]
    finally:
        rate_limited.disconnect(hear)
    assert heard == [("/", RateLimitRule(60, 1, "sliding-log"), "anon")]


def test_no_race(server: Server, prefix: str) -> None:
    """Of 60 at once, 5 a minute are 5; DRF's own let more through."""
    view = view_with("5/min")
    barrier = Barrier(60)

    def ask(_: int) -> int:
        barrier.wait()
        return call(view).status_code

    rustauth = {"URL": server.url, "KEY_PREFIX": prefix, "RATE_LIMIT": {"ENABLED": True}}
    with override_settings(RUSTAUTH=rustauth), ThreadPoolExecutor(60) as pool:
        found = sorted(pool.map(ask, range(60)))
    assert found == [200] * 5 + [429] * 55
