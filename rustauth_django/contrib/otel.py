"""OpenTelemetry, for ``RUSTAUTH["TELEMETRY"]``: decisions, and how long the server took.

Only the API is used; the site's SDK decides where the numbers go. No attribute contains a key, a
value or an address, and each attribute has few values.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, TypeVar

from opentelemetry import metrics, trace
from opentelemetry.trace import SpanKind, StatusCode

from ..engine.backends import Backend, MemoryBackend
from ..engine.operations import Known, Operation

T = TypeVar("T")

NAME = "rustauth_django"
# Seconds, as OpenTelemetry's conventions for databases recommend.
BOUNDARIES = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)


class Telemetry:
    """Reports to the meter and the tracer of the global providers."""

    def __init__(self) -> None:
        meter = metrics.get_meter(NAME)
        self._tracer = trace.get_tracer(NAME)
        self._decisions = meter.create_counter(
            "rustauth.rate_limit.decisions", "{decision}", "Outcomes of requests, by limit."
        )
        self._durations = meter.create_histogram(
            "db.client.operation.duration",
            "s",
            "Duration of round trips to the server.",
            explicit_bucket_boundaries_advisory=BOUNDARIES,
        )

    def observe(self, name: str, outcome: str) -> None:
        """Count the outcome of a request under the limit ``name``."""
        attributes = {"rustauth.rate_limit.name": name, "rustauth.rate_limit.outcome": outcome}
        self._decisions.add(1, attributes)

    def wrap(self, backend: Backend) -> Backend:
        """``backend`` with a span for each operation; memory has none, since nothing is sent."""
        return backend if isinstance(backend, MemoryBackend) else Observed(backend, self)

    @contextmanager
    def round_trip(self, operation: Operation[Any]) -> Iterator[None]:
        """A span and a duration for the block."""
        if isinstance(operation, Known):
            yield
            return
        attributes = {"db.system.name": "redis", "db.operation.name": operation.label}
        # Exceptions are not recorded: the text may contain a key, and so an address.
        with self._tracer.start_as_current_span(
            f"rustauth {operation.label}",
            kind=SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            started = perf_counter()
            try:
                yield
            except BaseException as error:
                attributes["error.type"] = type(error).__name__
                span.set_attribute("error.type", attributes["error.type"])
                span.set_status(StatusCode.ERROR)
                raise
            finally:
                self._durations.record(perf_counter() - started, attributes)


class Observed(Backend):
    """A backend whose every operation is a span and a measurement."""

    def __init__(self, backend: Backend, telemetry: Telemetry) -> None:
        self.location = backend.location
        self._backend = backend
        self._telemetry = telemetry

    def run(self, operation: Operation[T]) -> T:
        with self._telemetry.round_trip(operation):
            return self._backend.run(operation)

    async def arun(self, operation: Operation[T]) -> T:
        with self._telemetry.round_trip(operation):
            return await self._backend.arun(operation)

    def close(self) -> None:
        self._backend.close()

    async def aclose(self) -> None:
        await self._backend.aclose()
