"""contrib.otel: metrics and traces, through the global providers of OpenTelemetry's API."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import AsyncClient, Client, override_settings
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from rustauth_django import BackendError, InvalidConfig, RateLimitRule
from rustauth_django.connections import get_stores

from .faces import Face
from .servers import Server

DELTA = AggregationTemporality.DELTA
CONSUME = {"db.system.name": "redis", "db.operation.name": "rate limit consume"}


class Told:
    """What was told since it was last asked."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader({Counter: DELTA, Histogram: DELTA})
        tracing = TracerProvider(shutdown_on_exit=False)
        tracing.add_span_processor(SimpleSpanProcessor(self._exporter))
        trace.set_tracer_provider(tracing)
        metrics.set_meter_provider(MeterProvider([self._reader], shutdown_on_exit=False))

    def spans(self) -> list[ReadableSpan]:
        found = list(self._exporter.get_finished_spans())
        self._exporter.clear()
        return found

    def points(self) -> dict[str, list[Any]]:
        data = self._reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture(scope="module")
def providers() -> Told:
    """The global providers can be set but once."""
    return Told()


@pytest.fixture
def told(providers: Told) -> Told:
    """Nothing, so far."""
    providers.spans()
    providers.points()
    return providers


@pytest.fixture
def get(runner: asyncio.Runner | None) -> Callable[[str], Any]:
    """``get(path)`` of the test site, under WSGI or under ASGI."""
    if runner is None:
        return lambda path: Client().get(path)
    return lambda path: runner.run(AsyncClient().get(path))


@pytest.fixture
def limited(server: Server, prefix: str) -> Iterator[None]:
    """A site that tells, and permits one request."""
    rules = [{"path": "/items", "window": 60, "max": 1}]
    limits = {"ENABLED": True, "RULES": rules, "LOCAL_REFUSALS": 0}
    rustauth = {
        "URL": server.url,
        "KEY_PREFIX": prefix,
        "TELEMETRY": True,
        "RATE_LIMIT": limits,
    }
    with override_settings(RUSTAUTH=rustauth):
        yield


@pytest.mark.usefixtures("limited")
def test_what_a_request_tells(told: Told, get: Callable[[str], Any], prefix: str) -> None:
    """One decision, one duration and one span each; of addresses and keys, nothing."""
    assert [get("/items/").status_code for _ in range(3)] == [200, 429, 429]
    spans, points = told.spans(), told.points()
    assert set(points) == {"rustauth.rate_limit.decisions", "db.client.operation.duration"}
    decisions = {
        point.attributes["rustauth.rate_limit.outcome"]: (
            point.attributes["rustauth.rate_limit.name"],
            point.value,
        )
        for point in points["rustauth.rate_limit.decisions"]
    }
    assert decisions == {"permitted": ("path:/items", 1), "refused": ("path:/items", 2)}
    (duration,) = points["db.client.operation.duration"]
    assert duration.attributes == CONSUME
    assert duration.count == 3
    assert 0 < duration.sum < 3
    assert duration.explicit_bounds[0] == 0.001
    assert len(spans) == 3
    for span in spans:
        assert span.name == "rustauth rate limit consume"
        assert span.kind is SpanKind.CLIENT
        assert span.attributes == CONSUME
        assert span.status.status_code is StatusCode.UNSET
    everything = str([span.to_json() for span in spans]) + str(points)
    assert "127.0.0" not in everything
    assert prefix not in everything


@pytest.mark.usefixtures("limited")
def test_a_span_has_its_parent(told: Told, runner: asyncio.Runner | None) -> None:
    """It is a part of whatever is going on, on both faces."""
    storage = get_stores().secondary_storage

    async def ask() -> None:
        with trace.get_tracer("test").start_as_current_span("request"):
            await storage.aset("key", "value")
            await storage.atake("key")
        await get_stores().aclose()

    if runner:
        runner.run(ask())
    else:
        with trace.get_tracer("test").start_as_current_span("request"):
            storage.set("key", "value")
            storage.take("key")
    first, second, request = told.spans()
    assert (first.name, second.name) == ("rustauth secondary set", "rustauth secondary take")
    for span in (first, second):
        assert span.parent is not None
        assert span.parent.span_id == request.context.span_id


@pytest.mark.parametrize("url", ["dead", "wrong type"])
def test_what_fails_is_told_by_its_kind(
    told: Told,
    runner: asyncio.Runner | None,
    one_server: Server,
    prefix: str,
    dead_url: str,
    url: str,
) -> None:
    """The text of an error may quote a key, and so an address: it is left out."""
    rustauth = {
        "URL": dead_url if url == "dead" else one_server.url,
        "KEY_PREFIX": prefix,
        "TELEMETRY": True,
    }
    key = "192.0.2.1|/path"
    with override_settings(RUSTAUTH=rustauth):
        stores = get_stores()
        if url != "dead":
            stores.secondary_storage.set(key, "v")
            raw = stores.rate_limit_store.keyspaces[0].physical(key)
            with one_server.client() as client:
                client.set(raw, "v")
            told.spans()
            told.points()
        with pytest.raises(BackendError) as caught:
            Face(stores.rate_limit_store, runner).consume(key, RateLimitRule(60, 1))
        if runner:
            runner.run(stores.aclose())
    (span,) = told.spans()
    kind = type(caught.value).__name__
    assert kind == ("BackendUnavailable" if url == "dead" else "BackendError")
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert span.events == ()
    assert span.attributes == {**CONSUME, "error.type": kind}
    (duration,) = told.points()["db.client.operation.duration"]
    assert duration.attributes == {**CONSUME, "error.type": kind}
    assert "192.0.2" not in span.to_json()


def test_memory_has_no_round_trips(told: Told, get: Callable[[str], Any]) -> None:
    """But decisions."""
    limits = {"ENABLED": True, "MAX": 1}
    with override_settings(RUSTAUTH={"TELEMETRY": True, "RATE_LIMIT": limits}):
        assert [get("/items/").status_code for _ in range(2)] == [200, 429]
    assert told.spans() == []
    assert set(told.points()) == {"rustauth.rate_limit.decisions"}


@pytest.mark.usefixtures("limited")
def test_what_needs_no_server_is_no_round_trip(told: Told, runner: asyncio.Runner | None) -> None:
    """Nothing is sent for a value that has expired already."""
    storage = Face(get_stores().secondary_storage, runner)
    assert storage.set_if_not_exists("key", "value", ttl=0) is False
    assert told.spans() == []
    assert told.points() == {}


def test_it_is_off_unless_told(told: Told, one_server: Server) -> None:
    """Without the setting, not even the package is needed."""
    with override_settings(RUSTAUTH={"URL": one_server.url}):
        get_stores().secondary_storage.get("key")
    assert told.spans() == []
    assert told.points() == {}


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """In ``manage.py check``, and as the site starts."""
    monkeypatch.setitem(sys.modules, "rustauth_django.contrib.otel", None)
    with override_settings(RUSTAUTH={"TELEMETRY": True}):
        (found,) = [message for message in run_checks() if message.id == "rustauth_django.E005"]
        assert "install rustauth-django[otel]" in found.msg
        with pytest.raises(InvalidConfig, match="needs OpenTelemetry"):
            get_stores()
