"""What is refused without the server, and what never is."""

import asyncio
from typing import Any

import pytest
from django.test import override_settings

from rustauth_django import RateLimitRule, RustAuthStores
from rustauth_django.connections import get_stores
from rustauth_django.engine.backends import Backend, MemoryBackend
from rustauth_django.engine.operations import Operation
from rustauth_django.limits.operations import Attempt, Consume, Settle
from rustauth_django.limits.refusals import MAX_REFUSALS, LocalRefusals
from rustauth_django.limits.store import RateLimitStore

from .conftest import Clock
from .faces import Face
from .servers import Server

RULE = RateLimitRule.parse("2/m")
BOUND = 5


class Counting(Backend):
    """Another backend, and how many decisions it was asked for."""

    def __init__(self, backend: Backend) -> None:
        self.backend, self.location, self.times = backend, backend.location, 0

    def run(self, operation: Operation[Any]) -> Any:
        self.times += isinstance(operation, Consume)
        return self.backend.run(operation)

    async def arun(self, operation: Operation[Any]) -> Any:
        return self.run(operation)

    def close(self) -> None:
        self.backend.close()

    async def aclose(self) -> None:
        await self.backend.aclose()


class Front:
    """Local refusals before a backend whose time is the test's, and so is theirs."""

    def __init__(self, clock: Clock, runner: asyncio.Runner | None, seconds: float = BOUND) -> None:
        self.clock, self.runner = clock, runner
        self.server = Counting(MemoryBackend(clock=clock))
        self.backend = LocalRefusals(self.server, seconds, lambda: clock.now_ms / 1000)
        self.limits = Face(RateLimitStore(self.backend), runner)
        #: The same server, seen from another process.
        self.elsewhere = RateLimitStore(self.server.backend)


@pytest.fixture
def front(clock: Clock, runner: asyncio.Runner | None) -> Front:
    return Front(clock, runner)


def exhaust(front: Front, key: str = "key", rule: RateLimitRule = RULE) -> Any:
    while (decision := front.limits.consume(key, rule)).permitted:
        pass
    return decision


def test_a_flood_is_answered_without_the_server(front: Front) -> None:
    """For as long as is stated; each answer says what the server would."""
    refused = exhaust(front)
    times = front.server.times
    for seconds in range(BOUND):
        for _ in range(100):
            again = front.limits.consume("key", RULE)
            assert again == front.elsewhere.peek("key", RULE)
            assert again.retry_after == refused.retry_after - seconds
            assert (again.key, again.rule) == ("key", RULE)
        front.clock.now_ms += 1_000
    assert front.server.times == times
    front.limits.consume("key", RULE)
    assert front.server.times == times + 1


def test_nobody_is_refused_whom_the_server_would_permit(front: Front) -> None:
    """Not a millisecond longer than it said, at any cost, under any other rule or key."""
    rule = RateLimitRule(2, 2, "fixed-window")
    exhaust(front, rule=rule)
    assert front.limits.consume("other", rule).permitted
    assert front.limits.consume("key", RULE).permitted
    front.clock.now_ms += 1_999
    assert not front.limits.consume("key", rule).permitted
    front.clock.now_ms += 1
    assert front.limits.consume("key", rule).permitted
    assert not front.limits.consume("key", rule, cost=2).permitted
    assert front.limits.consume("key", rule, cost=1).permitted, "a smaller one may fit"


@pytest.mark.parametrize("how", ["reset", "refund", "clear", "settle"])
def test_what_is_given_back_here_holds_at_once(front: Front, how: str) -> None:
    """In this process."""
    exhaust(front)
    arguments = {"reset": ("key",), "refund": ("key", RULE, 1), "clear": ()}
    if how == "settle":
        (bucket,) = RateLimitStore(front.backend).attempt([("key", RULE)]).buckets
        Face(front.backend, front.limits.runner).run(
            Settle((Attempt(bucket, front.clock.now_ms, "undo"),))
        )
    else:
        getattr(front.limits, how)(*arguments[how])
    assert front.limits.consume("key", RULE).permitted


def test_what_is_given_back_elsewhere_holds_after_the_bound(front: Front) -> None:
    """In all others."""
    exhaust(front)
    front.elsewhere.reset("key")
    front.clock.now_ms += BOUND * 1_000 - 1
    assert not front.limits.consume("key", RULE).permitted
    front.clock.now_ms += 1
    assert front.limits.consume("key", RULE).permitted


def test_a_refusal_that_was_overtaken_is_not_remembered(front: Front) -> None:
    """Asked before a reset, answered after it."""
    exhaust(front)
    front.clock.now_ms += BOUND * 1_000
    operation = RateLimitStore(front.backend).consumption([("key", RULE)])
    _, asked = front.backend._before(operation)
    answer = front.server.run(operation)
    front.limits.reset("key")
    front.backend._after(operation, answer, asked)
    assert front.limits.consume("key", RULE).permitted


def test_looks_are_spared_too(front: Front) -> None:
    """Those before a login, or before a view whose failures count."""
    exhaust(front)
    times = front.server.times
    for _ in range(5):
        assert not front.limits.peek("key", RULE).permitted
    assert front.server.times == times


def test_several_limits_are_refused_by_the_one_that_is_known(front: Front) -> None:
    """And none of the others is spent."""
    exhaust(front, "address")
    pair = [("account", RULE), ("address", RULE)]
    refused = front.limits.consume_all(pair)
    assert (refused.permitted, refused.key) == (False, "address")
    assert front.elsewhere.peek("account", RULE).remaining == 2


def test_they_are_bounded(front: Front) -> None:
    """However many clients are refused."""
    rule = RateLimitRule(60, 1)
    exhaust(front, "first", rule)
    refusal = next(iter(front.backend._refusals.values()))
    for index in range(MAX_REFUSALS + 10):
        front.backend._refusals[f"filler-{index}", rule.name] = refusal
    exhaust(front, "last", rule)
    assert len(front.backend._refusals) == MAX_REFUSALS
    assert any("last" in key for key, _ in front.backend._refusals)


def test_off_means_that_the_server_is_always_asked(clock: Clock, runner: Any) -> None:
    """By the setting."""
    front = Front(clock, runner, seconds=0)
    exhaust(front)
    times = front.server.times
    for _ in range(5):
        front.limits.consume("key", RULE)
    assert front.server.times == times + 5


@pytest.mark.parametrize("seconds", [0, 3])
def test_the_setting_is_the_bound(server: Server, prefix: str, seconds: int) -> None:
    """LOCAL_REFUSALS, on a real server: another process's reset is seen within it."""
    limits = {"LOCAL_REFUSALS": seconds}
    settings = {"URL": server.url, "KEY_PREFIX": prefix, "RATE_LIMIT": limits}
    with override_settings(RUSTAUTH=settings):
        store = get_stores().rate_limit_store
        while store.consume("key", RULE).permitted:
            pass
        with RustAuthStores.from_url(server.url, key_prefix=prefix) as elsewhere:
            assert elsewhere.rate_limit_store.reset("key")
        assert store.consume("key", RULE).permitted == (seconds == 0)


def test_memory_needs_no_memory_before_it(memory: RustAuthStores) -> None:
    """There it would spare nothing."""
    assert isinstance(RustAuthStores(memory.backend, local_refusals=1).backend, MemoryBackend)
