"""The operations on rate limit buckets, each one atomic step."""

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias

from ..engine.commands import Command, ScriptCall
from ..engine.memory import Memory
from ..engine.operations import InvalidReply, Operation, Unlink, array, encode, integer, text
from ..engine.plans import Plan
from ..exceptions import BackendError
from .algorithms.base import State
from .algorithms.consume import (
    TTL_MARGIN_MS,
    UNDO,
    consume,
    replay,
    script_for_one,
    script_for_settling,
    script_for_several,
)
from .rates import LATEST_MS, AlgorithmName, RateLimitDecision, RateLimitRule

# Undoing cannot restore this algorithm's state: the window that the request restarted stays.
LEAVES_A_TRACE = "rustauth"
# As the scripts pack it: permitted, used, retry, reset, and when it was counted.
DECISION = struct.Struct(">BQQQQ")
# The suffix of the hash field that lists a rule's attempts under way.
UNDER_WAY = ":under-way"
# How an attempt ends; settle.lua explains each word.
Ending: TypeAlias = Literal["undo", "keep", "forgive"]


class Bucket(NamedTuple):
    """A limit on a subject: the physical key it is kept under, its rule, and the logical key.

    With ``notes_attempts`` it also knows which requests are still under way, to be settled.
    """

    physical: str
    rule: RateLimitRule
    key: str
    notes_attempts: bool = False

    @property
    def waiting(self) -> str:
        """The field of attempts that are under way; "" if none are noted."""
        return f"{self.rule.slot}{UNDER_WAY}" if self.notes_attempts else ""


# Not frozen: one is made for each request, and a frozen one takes three times as long to make.
@dataclass(slots=True, repr=False)
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
        now = "" if self.now_ms is None else self.now_ms
        rules = tuple(
            [
                (bucket.rule.counted_by, *bucket.rule.arguments, bucket.notes_attempts)
                for bucket in self.buckets
            ]
        )
        keys = [encode(bucket.physical) for bucket in self.buckets]
        return call_for(rules, now, self.cost).on(*keys)

    def answer(self, reply: Any) -> tuple[RateLimitDecision, ...]:
        buckets = self.buckets
        if type(reply) is not bytes or len(reply) != DECISION.size * len(buckets):
            raise InvalidReply("a decision on each limit")
        if len(buckets) == 1:
            return (decide(buckets[0], *DECISION.unpack(reply)),)
        found = DECISION.iter_unpack(reply)
        return tuple([decide(bucket, *one) for bucket, one in zip(buckets, found, strict=True)])

    def in_memory(self, memory: Memory) -> tuple[RateLimitDecision, ...]:
        now_ms = memory.clock() if self.now_ms is None else self.now_ms
        limits = []
        for physical, rule, *_ in self.buckets:
            state = memory.state(physical, rule.slot)
            limits.append((rule.counted_by, rule.numbers, state))
        steps, is_kept = consume(limits, now_ms, self.cost)
        for bucket, step in zip(self.buckets, steps, strict=True):
            physical, rule, *_ = bucket
            if is_kept and step.state is not None:
                # A refund does not make a bucket live longer.
                keep_ms = step.keep_ms + TTL_MARGIN_MS if self.cost > 0 else 0
                memory.set_state(physical, rule.slot, step.state, keep_ms)
                if bucket.notes_attempts and self.cost > 0:
                    note(memory, bucket, step.counted_at_ms, self.cost)
        return tuple(
            [
                decide(bucket, *step.outcome, step.counted_at_ms)
                for bucket, step in zip(self.buckets, steps, strict=True)
            ]
        )

    def failure(self, reason: str) -> BackendError:
        if removed := re.search(r"WRONGTYPE.* removed number (\d+)", reason):
            return BackendError(
                self.label,
                "the key did not hold a rate limit bucket; it was removed, and the next"
                " request starts one",
                self.buckets[int(removed[1]) - 1].physical,
            )
        return BackendError(self.label, reason)

    def across_slots(self) -> "Plan[Operation[Any], tuple[RateLimitDecision, ...]] | None":
        is_one = len({bucket.physical for bucket in self.buckets}) == 1
        return None if is_one else self._by_key()

    def _by_key(self) -> "Plan[Operation[Any], tuple[RateLimitDecision, ...]]":
        """All or nothing over several keys, with one step for each key on its own server.

        The keys are consumed one after the other. When one refuses or fails, the keys before it are
        given back. Until then, other requests may be refused because of them. A ``rustauth`` window
        that was restarted stays so, which is why these keys come last. If the call is cancelled
        half-way, the keys so far stay counted.
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
            attempts = [Attempt(one, decisions[one].counted_at_ms, "undo") for one in part]
            try:
                yield Settle(tuple(attempts), self.cost)
                yield from ask(part, 0)
            except BackendError as error:
                failures.append(error)
        if failures:
            raise failures[0]
        for part in waiting:
            yield from ask(part, 0)
        return tuple(decisions[bucket] for bucket in self.buckets)


class Reservation(NamedTuple):
    """A request that was counted before its result is known."""

    #: Each bucket, and when it was counted there, in its epoch milliseconds.
    counted: tuple[tuple[Bucket, int], ...]
    #: The buckets that have no room left since.
    full: tuple[Bucket, ...]
    #: Was it counted in this process's memory, because of an outage?
    is_here: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request that was counted in ``bucket`` at that time, and how it ends."""

    bucket: Bucket
    counted_at_ms: int
    ending: Ending


@dataclass(frozen=True, slots=True, repr=False)
class Settle(Operation[int]):
    """End ``attempts`` of one cost. How many changed anything?

    An undone attempt leaves its bucket as if it had never come, including the block that it began
    and that block's step of escalation. Settling never creates a bucket and never makes one live
    longer.
    """

    label = "rate limit settle"
    attempts: tuple[Attempt, ...]
    cost: int = 1

    def command(self) -> Command | None:
        if not self.attempts:
            return None
        algorithms = frozenset([one.bucket.rule.counted_by for one in self.attempts])
        arguments: list[str | bytes | int] = ["", self.cost, 0]
        for one in self.attempts:
            rule, waiting = one.bucket.rule, one.bucket.waiting
            slot, numbers = rule.arguments
            arguments += (rule.counted_by, slot, waiting, numbers, one.counted_at_ms, one.ending)
        keys = [encode(one.bucket.physical) for one in self.attempts]
        return script_for_settling(algorithms).call(keys, *arguments)

    def answer(self, reply: Any) -> int:
        return 0 if reply is None else integer(reply)

    def in_memory(self, memory: Memory) -> int:
        return sum([self._settle(memory, one) for one in self.attempts])

    def _settle(self, memory: Memory, attempt: Attempt) -> bool:
        bucket, at = attempt.bucket, attempt.counted_at_ms
        physical, rule, *_ = bucket
        state = memory.state(physical, rule.slot)
        before = memory.state(physical, bucket.waiting) if bucket.waiting else ()
        others = without(before, at, self.cost)
        changed: State | None = None
        if attempt.ending == "undo" and state:
            changed = UNDO[rule.counted_by](state, at, self.cost, *rule.numbers)
        elif attempt.ending == "forgive":
            changed = replay(rule.counted_by, rule.numbers, others)
        if changed == state:
            changed = None
        if changed is not None:
            memory.change_state(physical, rule.slot, changed)
        if others != before:
            memory.change_state(physical, bucket.waiting, others)
        return changed is not None or others != before

    def across_slots(self) -> "Plan[Operation[Any], int] | None":
        is_one = len({one.bucket.physical for one in self.attempts}) <= 1
        return None if is_one else self._by_key()

    def _by_key(self) -> "Plan[Operation[Any], int]":
        changed = 0
        for attempt in self.attempts:
            changed += yield replace(self, attempts=(attempt,))
        return changed


def note(memory: Memory, bucket: Bucket, at: int, cost: int) -> None:
    """Add an attempt to a list, and drop those that are older than a window."""
    times = memory.state(bucket.physical, bucket.waiting)
    recent = [time for time in times if time > at - bucket.rule.window_ms]
    memory.set_state(bucket.physical, bucket.waiting, (*recent, *[at] * cost), 0)


def without(times: tuple[int, ...], at: int, cost: int) -> tuple[int, ...]:
    """``times`` without so many of ``at``."""
    left = list(times)
    for _ in range(min(cost, left.count(at))):
        left.remove(at)
    return tuple(left)


@lru_cache(maxsize=1024)
def call_for(
    rules: tuple[tuple[AlgorithmName, bytes, bytes, bool], ...], now: int | str, cost: int
) -> ScriptCall:
    """The call that decides limits of these rules, for any keys."""
    start = (now, cost, TTL_MARGIN_MS)
    if len(rules) == 1 and not rules[0][3]:
        ((algorithm, slot, numbers, _),) = rules
        return ScriptCall(script_for_one(algorithm), 1, *start, slot, numbers)
    script = script_for_several(frozenset([algorithm for algorithm, *_ in rules]))
    each: list[str | bytes] = []
    for algorithm, slot, numbers, notes_attempts in rules:
        waiting = slot + UNDER_WAY.encode() if notes_attempts else b""
        each += (algorithm, slot, waiting, numbers)
    return ScriptCall(script, len(rules), *start, *each)


def leaves_a_trace(part: Iterable[Bucket]) -> bool:
    """Does one of these buckets count by an algorithm that cannot be undone exactly?"""
    return any(bucket.rule.counted_by == LEAVES_A_TRACE for bucket in part)


def decide(
    bucket: Bucket, permitted: int, used: int, retry_ms: int, reset_ms: int, counted_at_ms: int
) -> RateLimitDecision:
    """The decision's fields (RL-13 to RL-18), where a refusal never says 0 (QUIRK-07)."""
    _, rule, key, _ = bucket
    limit = rule.capacity
    remaining = limit - used if used < limit else 0
    reset_after = -(-min(reset_ms, LATEST_MS) // 1000)
    if permitted:
        return RateLimitDecision(
            True, 0, limit, remaining, reset_after, rule, key, counted_at_ms=counted_at_ms
        )
    retry_ms = max(1, min(retry_ms, LATEST_MS))
    retry_after = -(-retry_ms // 1000)
    reset_after = max(retry_after, reset_after)
    return RateLimitDecision(False, retry_after, limit, remaining, reset_after, rule, key, retry_ms)


@dataclass(frozen=True, slots=True, repr=False)
class Forget(Unlink):
    """Remove the buckets at ``keys``. How many were there?"""

    label = "rate limit reset"

    def command(self) -> Command:
        return ("DEL", *map(encode, self.keys))


@dataclass(frozen=True, slots=True, repr=False)
class ReadFields(Operation[dict[str, str]]):
    """The fields of the bucket at ``key``, as stored; empty if there is none."""

    label = "rate limit read"
    key: str

    def command(self) -> Command:
        return "HGETALL", encode(self.key)

    def answer(self, reply: Any) -> dict[str, str]:
        # RESP2 has no maps: there it is a list of names and values in turn.
        if not isinstance(reply, dict):
            flat = array(reply)
            if len(flat) % 2:
                raise InvalidReply("pairs")
            reply = dict(zip(flat[::2], flat[1::2], strict=True))
        return {text(name, "replace"): text(value, "replace") for name, value in reply.items()}

    def in_memory(self, memory: Memory) -> dict[str, str]:
        found = memory.find_bucket(self.key)
        states = found.content if found else {}
        fields = {name: as_text(state) for name, state in states.items()}
        if "" in fields:
            fields["count"], fields["last_request"] = fields.pop("").split()
        return fields


def as_text(state: State) -> str:
    """A state in the form in which a server stores it."""
    if isinstance(state, bytes):
        return state.decode("utf-8", "replace")
    return " ".join(map(str, state))
