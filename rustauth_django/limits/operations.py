"""What happens to rate limit buckets in one step."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..engine.durations import ceil_seconds
from ..engine.memory import Memory
from ..engine.operations import Command, Operation, Unlink, array, encode, text
from ..engine.plans import Plan
from ..exceptions import BackendError
from .algorithms.base import Outcome
from .algorithms.consume import TTL_MARGIN_MS, consume, read_reply, script
from .rates import RateLimitDecision, RateLimitRule

LATEST_MS = 2**53
# What of these algorithms was given back leaves a trace: the window, or the block, stays.
LEAVE_A_TRACE = ("rustauth", "lockout")


class Bucket(NamedTuple):
    """A limit on a subject: the physical key it is kept under, its rule, and the logical key."""

    physical: str
    rule: RateLimitRule
    key: str


@dataclass(frozen=True, slots=True, repr=False)
class Consume(Operation[tuple[RateLimitDecision, ...]]):
    """Count a request against all ``buckets``, or, if one refuses it, against none.

    ``now_ms`` is epoch milliseconds; None means the backend's own clock. A ``cost`` above
    zero is spent, all or nothing; zero only looks; what is below zero is given back.
    """

    label = "rate limit consume"
    buckets: tuple[Bucket, ...]
    now_ms: int | None = None
    cost: int = 1

    def command(self) -> Command:
        keys = self._keys()
        now = "" if self.now_ms is None else self.now_ms
        arguments: list[int | str] = [now, self.cost, TTL_MARGIN_MS]
        for physical, rule, _ in self.buckets:
            arguments.append(keys.index(physical) + 1)
            arguments += rule.arguments
        algorithms = frozenset([bucket.rule.algorithm for bucket in self.buckets])
        return script(algorithms).call([encode(key) for key in keys], *arguments)

    def answer(self, reply: Any) -> tuple[RateLimitDecision, ...]:
        outcomes = read_reply(reply, len(self.buckets))
        return tuple(map(decide, outcomes, self.buckets))

    def in_memory(self, memory: Memory) -> tuple[RateLimitDecision, ...]:
        now_ms = memory.clock() if self.now_ms is None else self.now_ms
        limits = []
        for physical, rule, _ in self.buckets:
            found = memory.find_bucket(physical)
            state = found.content.get(rule.slot, ()) if found else ()
            limits.append((rule.algorithm, rule.numbers, state))
        outcomes, steps = consume(limits, now_ms, self.cost)
        for (physical, rule, _), step in zip(self.buckets, steps, strict=bool(steps)):
            if step.state is not None:
                # A refund does not make a bucket live longer.
                keep_ms = step.keep_ms + TTL_MARGIN_MS if self.cost > 0 else 0
                memory.set_state(physical, rule.slot, step.state, keep_ms)
        return tuple(map(decide, outcomes, self.buckets))

    def failure(self, reason: str) -> BackendError:
        if removed := re.search(r"WRONGTYPE.* removed number (\d+)", reason):
            return BackendError(
                self.label,
                "the key did not hold a rate limit bucket; it was removed, and the next"
                " request starts one",
                self._keys()[int(removed[1]) - 1],
            )
        return BackendError(self.label, reason)

    def across_slots(self) -> "Plan[Operation[Any], tuple[RateLimitDecision, ...]] | None":
        return self._by_key() if len(self._keys()) > 1 else None

    def _keys(self) -> list[str]:
        return list(dict.fromkeys([bucket.physical for bucket in self.buckets]))

    def _by_key(self) -> "Plan[Operation[Any], tuple[RateLimitDecision, ...]]":
        """All or nothing over several keys, each of which is one step on its own server.

        The keys are consumed one after the other. When one refuses or fails, what the ones
        before it took is given back: until then, others may be refused because of it. It is
        given back exactly, but for a ``rustauth`` window or a ``lockout`` that it began anew:
        that stays begun, which is why they come last. What a call took that is cancelled
        half-way stays taken.
        """
        parts: dict[str, list[Bucket]] = {}
        for bucket in self.buckets:
            parts.setdefault(bucket.physical, []).append(bucket)
        decisions: dict[Bucket, RateLimitDecision] = {}
        taken: list[list[Bucket]] = []
        failures: list[BackendError] = []

        def ask(part: list[Bucket], cost: int) -> Plan[Operation[Any], bool]:
            answers = yield replace(self, buckets=tuple(part), cost=cost)
            decisions.update(zip(part, answers, strict=True))
            return all(answer.permitted for answer in answers)

        waiting = iter(sorted(parts.values(), key=leaves_a_trace))
        for part in waiting:
            try:
                permitted = yield from ask(part, self.cost)
            except BackendError as error:
                failures.append(error)
                break
            if self.cost > 0:
                if not permitted:
                    break
                taken.append(part)
        else:
            taken.clear()  # for good
        for part in taken:
            try:
                yield from ask(part, -self.cost)
            except BackendError as error:
                failures.append(error)
        if failures:
            raise failures[0]
        for part in waiting:
            yield from ask(part, 0)
        return tuple(decisions[bucket] for bucket in self.buckets)


def leaves_a_trace(part: Iterable[Bucket]) -> bool:
    """Is there something among these buckets that cannot be given back exactly?"""
    return any(bucket.rule.algorithm in LEAVE_A_TRACE for bucket in part)


def decide(outcome: Outcome, bucket: Bucket) -> RateLimitDecision:
    """The decision's fields (RL-13 to RL-18), where a refusal never says 0 (QUIRK-07)."""
    permitted, used, retry_ms, reset_ms = outcome
    limit = bucket.rule.capacity
    retry_ms = 0 if permitted else max(1, min(retry_ms, LATEST_MS))
    retry_after = ceil_seconds(retry_ms)
    reset_after = max(retry_after, ceil_seconds(min(reset_ms, LATEST_MS)))
    remaining = max(0, limit - used)
    return RateLimitDecision(
        permitted, retry_after, limit, remaining, reset_after, bucket.rule, bucket.key, retry_ms
    )


@dataclass(frozen=True, slots=True, repr=False)
class Forget(Unlink):
    """Remove the buckets at ``keys``. How many were there?"""

    label = "rate limit reset"

    def command(self) -> Command:
        return ("DEL", *map(encode, self.keys))


@dataclass(frozen=True, slots=True, repr=False)
class ReadFields(Operation[dict[str, str]]):
    """What the bucket at ``key`` holds, as it is on the wire; nothing if there is none."""

    label = "rate limit read"
    key: str

    def command(self) -> Command:
        return "HGETALL", encode(self.key)

    def answer(self, reply: Any) -> dict[str, str]:
        # RESP2 has no maps: there it is a list of names and values in turn.
        if not isinstance(reply, dict):
            flat = array(reply)
            reply = dict(zip(flat[::2], flat[1::2], strict=True))
        return {text(name, "replace"): text(value, "replace") for name, value in reply.items()}

    def in_memory(self, memory: Memory) -> dict[str, str]:
        found = memory.find_bucket(self.key)
        states = found.content if found else {}
        fields = {name: " ".join(map(str, state)) for name, state in states.items()}
        if "" in fields:
            fields["count"], fields["last_request"] = fields.pop("").split()
        return fields
