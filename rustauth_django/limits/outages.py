"""Asking the server for a decision, and the policy while it is away."""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from ..engine.backends import Backend, MemoryBackend
from ..engine.durations import ceil_seconds
from ..engine.operations import Operation
from ..engine.plans import Call, Plan, send
from ..exceptions import BackendError, BackendOverloaded, BackendUnavailable
from ..signals import backend_state_changed
from .operations import Attempt, Consume, Reservation, Settle
from .rates import OnError, RateLimitDecision, Uncounted, Verdict, binding

logger = logging.getLogger("rustauth_django")

Action: TypeAlias = Operation[Any] | Call
Decisions: TypeAlias = tuple[RateLimitDecision, ...]

# After so many failures in a row, the server is asked only once in so many seconds.
FAILURES = 3
PAUSE = 0.75


class Breaker:
    """A circuit breaker: it spares requests the time-out, and lets one probe through at a time.

    ``clock`` returns seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._ask_again_at = 0.0

    def may_ask(self) -> bool:
        """May this request ask the server? If it is a probe, the requests after it may not."""
        if self._failures < FAILURES:
            return True
        now = self._clock()
        if now < self._ask_again_at:
            return False
        # This is not a flag that the probe has to clear: if a probe never reports, because its
        # client hung up, the next one follows.
        self._ask_again_at = now + PAUSE
        return True

    def failed(self) -> None:
        self._failures += 1
        self._ask_again_at = self._clock() + PAUSE

    def succeeded(self) -> None:
        self._failures = 0

    def unasked(self) -> None:
        """A request that may ask did not ask: the next one may."""
        self._ask_again_at = self._clock()

    @property
    def pause(self) -> float:
        """Seconds until the server is asked again."""
        return max(0.0, self._ask_again_at - self._clock())


class Limiter:
    """Runs operations on a backend, or follows the policy for an outage.

    ``local`` counts by the same rules in this process's memory, ``deny`` refuses with a 503,
    ``allow`` lets through, ``raise`` raises the error for the caller. It holds no state of any
    request; its methods are plans, for either face to drive.
    """

    def __init__(
        self, backend: Backend, on_error: OnError, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._backend = backend
        self._on_error = on_error
        self._breaker = Breaker(clock)
        self._stand_in = MemoryBackend()
        self._is_away = False

    def consume(self, operation: Consume, on_error: OnError | None) -> Plan[Action, Verdict]:
        """The binding decision, or the policy's answer in its place."""
        try:
            return binding((yield from self._ask(operation)))
        except BackendError as error:
            answer = self._without_server(operation, error, on_error)
            return answer if isinstance(answer, Uncounted) else binding(answer)

    def reserve(
        self, operation: Consume, on_error: OnError | None
    ) -> Plan[Action, tuple[Verdict, Reservation | None]]:
        """The same, with the reservation for ``settle``; None if nothing was counted."""
        answer: Decisions | Uncounted
        try:
            answer, is_here = (yield from self._ask(operation)), False
        except BackendError as error:
            answer, is_here = self._without_server(operation, error, on_error), True
        if isinstance(answer, Uncounted):
            return answer, None
        verdict = binding(answer)
        if not verdict.permitted:
            return verdict, None
        found = list(zip(operation.buckets, answer, strict=True))
        counted = tuple([(bucket, one.counted_at_ms) for bucket, one in found])
        full = tuple([bucket for bucket, one in found if not one.remaining])
        return verdict, Reservation(counted, full, is_here)

    def _without_server(
        self, operation: Consume, error: BackendError, on_error: OnError | None
    ) -> "Decisions | Uncounted":
        policy = on_error or self._on_error
        if policy == "raise":
            raise error
        if policy == "allow":
            return Uncounted(permitted=True, retry_after=0)
        if isinstance(error, BackendOverloaded):
            # The server goes on counting: to count here as well would be a second quota.
            return Uncounted(permitted=False, retry_after=1)
        if policy == "deny":
            wait = max(1, ceil_seconds(int(self._breaker.pause * 1000)))
            return Uncounted(permitted=False, retry_after=wait)
        return self._stand_in.run(operation)

    def settle(self, attempts: Iterable[Attempt], *, is_here: bool) -> Plan[Action, int]:
        """End attempts where they were counted; while the server is away, they stay counted. How
        many changed anything?
        """
        operation = Settle(tuple(attempts))
        if not operation.attempts:
            return 0
        if is_here:
            return self._stand_in.run(operation)
        try:
            changed: int = yield from self._ask(operation)
        except BackendError:
            return 0
        return changed

    def _ask(self, operation: Operation[Any]) -> Plan[Action, Any]:
        if not self._breaker.may_ask():
            raise BackendUnavailable(operation.label, "the server was away a moment ago")
        try:
            answer = yield operation
        except BackendError as error:
            if isinstance(error, BackendOverloaded):
                # The server was not asked.
                self._breaker.unasked()
                raise
            # A server that answers with an error costs no time-out.
            if isinstance(error, BackendUnavailable):
                self._breaker.failed()
            yield from self._tell(error)
            raise
        if isinstance(operation, Consume) and any(one.is_local for one in answer):
            # An overload says nothing about the server.
            self._breaker.unasked()
            return answer
        self._breaker.succeeded()
        if self._is_away:
            yield from self._tell(None)
        return answer

    def _tell(self, error: BackendError | None) -> Plan[Action, None]:
        """Log and send the signal once for each change, not for each request."""
        if self._is_away == (error is not None):
            return
        self._is_away = error is not None
        if error:
            logger.warning(
                "Rate limits cannot be counted on the server now, so ON_ERROR applies:"
                " %s failed: %s",
                error.operation,
                error.reason,
            )
        else:
            logger.warning("Rate limits are counted on the server again.")
        yield from send(
            backend_state_changed,
            type(self),
            available=error is None,
            location=self._backend.location,
            error=error,
        )
