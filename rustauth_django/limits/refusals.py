"""Refusals from memory, without asking the server again.

A flood that is refused anyway costs the server nothing. A request that the server would permit is
never refused here: a refusal is remembered for as long as the server said, measured from before the
server was asked. It is remembered for at most ``seconds``, in case another process resets the
bucket. In this process ``reset``, ``refund`` and ``clear`` end it at once.
"""

import time
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any, NamedTuple, TypeAlias, TypeVar

from ..engine.backends import Backend
from ..engine.durations import ceil_seconds
from ..engine.operations import Operation, Unlink
from .operations import Bucket, Consume, Settle
from .rates import RateLimitDecision

T = TypeVar("T")
Decisions: TypeAlias = tuple[RateLimitDecision, ...]

MAX_REFUSALS = 10_000


class Refusal(NamedTuple):
    """The refusal of a request of ``cost``, which also refuses higher costs. ``asked_at`` is
    seconds of the clock.
    """

    cost: int
    decision: RateLimitDecision
    asked_at: float
    until: float


class Asked(NamedTuple):
    """When the server was asked, and how often something had been given back by then."""

    at: float
    generation: int


class LocalRefusals(Backend):
    """A backend that does not ask ``backend`` again for what it has refused in the last
    ``seconds``.
    """

    def __init__(
        self, backend: Backend, seconds: float = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.location = backend.location
        self._backend = backend
        self._seconds = seconds
        self._clock = clock
        self._lock = Lock()
        # By physical key and name of the rule.
        self._refusals: dict[tuple[str, str], Refusal] = {}
        # How often something was given back. A refusal that was asked for before that is not
        # remembered.
        self._generation = 0

    def run(self, operation: Operation[T]) -> T:
        known, asked = self._before(operation)
        if known is not None:
            return known
        answer = self._backend.run(operation)
        self._after(operation, answer, asked)
        return answer

    async def arun(self, operation: Operation[T]) -> T:
        known, asked = self._before(operation)
        if known is not None:
            return known
        answer = await self._backend.arun(operation)
        self._after(operation, answer, asked)
        return answer

    def close(self) -> None:
        self._backend.close()

    async def aclose(self) -> None:
        await self._backend.aclose()

    def _before(self, operation: Operation[T]) -> tuple[T | None, Asked | None]:
        """A remembered refusal, if there is one, else the state that ``_after`` needs."""
        if type(operation) is not Consume or operation.now_ms is not None or operation.cost < 0:
            return None, None
        now = self._clock()
        if self._refusals:
            cost = wanted(operation)
            known = []
            for bucket in operation.buckets:
                refusal = self._refusals.get((bucket.physical, bucket.rule.name))
                if refusal is not None and now < refusal.until and cost >= refusal.cost:
                    known.append(remind(refusal, bucket, now))
            if known:
                answer: Any = tuple(known)
                return answer, None
        return None, Asked(now, self._generation)

    def _after(self, operation: Operation[Any], answer: Any, asked: Asked | None) -> None:
        """Remember a refusal, or forget the refusals of buckets that were given something back."""
        if asked is not None:
            for decision in answer:
                if not decision.permitted:
                    self._note(operation, answer, asked)
                    return
        elif isinstance(operation, Unlink):
            self._forget(operation.keys)
        elif isinstance(operation, Consume) and operation.cost < 0:
            self._forget(bucket.physical for bucket in operation.buckets)
        elif isinstance(operation, Settle):
            self._forget(attempt.bucket.physical for attempt in operation.attempts)

    def _note(self, operation: Any, decisions: Decisions, asked: Asked) -> None:
        with self._lock:
            if asked.generation != self._generation:
                return
            for bucket, decision in zip(operation.buckets, decisions, strict=True):
                if not decision.permitted:
                    until = asked.at + min(self._seconds, decision.retry_after_ms / 1000)
                    key = bucket.physical, bucket.rule.name
                    self._refusals.pop(key, None)
                    self._refusals[key] = Refusal(wanted(operation), decision, asked.at, until)
            while len(self._refusals) > MAX_REFUSALS:
                del self._refusals[next(iter(self._refusals))]

    def _forget(self, physical: Iterable[str]) -> None:
        gone = set(physical)
        with self._lock:
            self._generation += 1
            for key in [key for key in self._refusals if key[0] in gone]:
                del self._refusals[key]


def wanted(operation: Consume) -> int:
    """The cost that needs room in the bucket; a peek asks for one."""
    return operation.cost or 1


def remind(refusal: Refusal, bucket: Bucket, now: float) -> RateLimitDecision:
    """An earlier refusal, with the time that is left now."""
    decision = refusal.decision
    passed_ms = int((now - refusal.asked_at) * 1000)
    retry_ms = max(1, decision.retry_after_ms - passed_ms)
    retry_after = ceil_seconds(retry_ms)
    reset_after = max(retry_after, ceil_seconds(decision.reset_after * 1000 - passed_ms))
    return RateLimitDecision(
        False,
        retry_after,
        decision.limit,
        decision.remaining,
        reset_after,
        bucket.rule,
        bucket.key,
        retry_ms,
        is_local=True,
    )
