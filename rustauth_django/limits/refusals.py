"""Refusals that need no server: what it refused a moment ago, and what is far beyond a limit.

A flood that is refused anyway costs the server nothing. Never refused here is what the
server would permit: a refusal is remembered no longer than the server said that it
lasts, from before the moment at which it was asked, and no longer than ``seconds`` in
all, in case another process resets the bucket. In this process ``reset``, ``refund`` and
``clear`` end it at once.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from threading import Lock
from typing import Any, NamedTuple, TypeAlias, TypeVar

from ..engine.backends import Backend, MemoryBackend
from ..engine.durations import ceil_seconds
from ..engine.operations import Operation, Unlink
from ..engine.plans import Plan, adrive, drive
from .operations import Bucket, Consume, Forget
from .rates import RateLimitDecision, RateLimitRule

T = TypeVar("T")
Decisions: TypeAlias = tuple[RateLimitDecision, ...]

MAX_REFUSALS = 10_000


class Refusal(NamedTuple):
    """A refusal of ``cost`` and more; times are seconds of the clock."""

    cost: int
    decision: RateLimitDecision
    noted_at: float
    until: float


class LocalRefusals(Backend):
    """``backend``, spared of what it has refused in the last ``seconds``.

    It also does the ``hybrid`` option of rules: each process counts what the server has
    permitted it, and refuses by itself what goes beyond (RL-34 to RL-40). What the server
    refuses is not counted, so that nobody waits for longer than the server says, and a
    decision tells the rule's own limit (QUIRK-19).
    """

    def __init__(
        self, backend: Backend, seconds: float = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.location = backend.location
        self._backend = backend
        self._seconds = seconds
        self._clock = clock
        self._lock = Lock()
        self._refusals: dict[tuple[str, RateLimitRule], Refusal] = {}
        # How often something was taken back: what was asked before that says nothing.
        self._generation = 0
        self._hybrid = MemoryBackend()

    def run(self, operation: Operation[T]) -> T:
        if isinstance(operation, Consume | Forget | Unlink):
            answer: T = drive(self._plan(operation), self._backend.run)
            return answer
        return self._backend.run(operation)

    async def arun(self, operation: Operation[T]) -> T:
        if isinstance(operation, Consume | Forget | Unlink):
            return await adrive(self._plan(operation), self._backend.arun)
        return await self._backend.arun(operation)

    def close(self) -> None:
        self._backend.close()

    async def aclose(self) -> None:
        await self._backend.aclose()

    def _plan(self, operation: Consume | Forget | Unlink) -> Plan[Operation[Any], Any]:
        if not isinstance(operation, Consume):
            answer = yield operation
            self._forget(operation.keys)
            return answer
        if operation.now_ms is not None:
            return (yield operation)
        keys = [bucket.physical for bucket in operation.buckets]
        if operation.cost < 0:
            answer = yield operation
            self._forget(keys)
            return answer
        if known := self._known(operation) or self._beyond_hybrid(operation):
            return known
        asked_at, generation = self._clock(), self._generation
        decisions: Decisions = yield operation
        if all(decision.permitted for decision in decisions):
            if operation.cost and (hybrids := hybrid_buckets(operation)):
                self._hybrid.run(in_process(hybrids, operation.cost))
        elif self._seconds:
            self._note(operation, decisions, asked_at, generation)
        return decisions

    def _known(self, operation: Consume) -> Decisions:
        if not self._refusals:
            return ()
        now = self._clock()
        found = (
            (bucket, self._refusals.get((bucket.physical, bucket.rule)))
            for bucket in operation.buckets
        )
        return tuple(
            remind(refusal, bucket, now)
            for bucket, refusal in found
            if refusal and now < refusal.until and wanted(operation) >= refusal.cost
        )

    def _note(
        self, operation: Consume, decisions: Decisions, asked_at: float, generation: int
    ) -> None:
        with self._lock:
            if generation != self._generation:
                return
            for bucket, decision in zip(operation.buckets, decisions, strict=True):
                if not decision.permitted:
                    until = asked_at + min(self._seconds, decision.retry_after_ms / 1000)
                    key = bucket.physical, bucket.rule
                    self._refusals.pop(key, None)
                    self._refusals[key] = Refusal(wanted(operation), decision, asked_at, until)
            while len(self._refusals) > MAX_REFUSALS:
                del self._refusals[next(iter(self._refusals))]

    def _forget(self, physical: Iterable[str]) -> None:
        gone = set(physical)
        with self._lock:
            self._generation += 1
            for key in [key for key in self._refusals if key[0] in gone]:
                del self._refusals[key]
        self._hybrid.run(Unlink(tuple(gone)))

    def _beyond_hybrid(self, operation: Consume) -> Decisions:
        buckets = hybrid_buckets(operation)
        if not buckets:
            return ()
        decisions = self._hybrid.run(in_process(buckets, cost=0))
        return tuple(
            replace(decision, limit=bucket.rule.capacity, rule=bucket.rule, is_local=True)
            for decision, bucket in zip(decisions, buckets, strict=True)
            if not decision.permitted
        )


def wanted(operation: Consume) -> int:
    """What it has to have room for: a look is one for a request of cost one."""
    return operation.cost or 1


def hybrid_buckets(operation: Consume) -> list[Bucket]:
    """Those buckets whose rules have the option."""
    return [bucket for bucket in operation.buckets if bucket.rule.hybrid]


def in_process(buckets: list[Bucket], cost: int) -> Consume:
    """What this process counts for them."""
    return Consume(tuple(b._replace(rule=b.rule.in_process()) for b in buckets), cost=cost)


def remind(refusal: Refusal, bucket: Bucket, now: float) -> RateLimitDecision:
    """An earlier refusal, as it is now."""
    passed_ms = int((now - refusal.noted_at) * 1000)
    decision = refusal.decision
    retry_ms = max(1, decision.retry_after_ms - passed_ms)
    retry_after = ceil_seconds(retry_ms)
    reset_after = max(retry_after, ceil_seconds(decision.reset_after * 1000 - passed_ms))
    return replace(
        decision,
        retry_after=retry_after,
        reset_after=reset_after,
        retry_after_ms=retry_ms,
        key=bucket.key,
        is_local=True,
    )
