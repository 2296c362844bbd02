"""While the server is away: who waits, what is said, what is answered, when it is asked again."""

import asyncio
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from rustauth_django import BackendUnavailable, RateLimitRule, RustAuthStores
from rustauth_django.connections import get_guard
from rustauth_django.engine.backends import Backend, MemoryBackend
from rustauth_django.engine.operations import Operation
from rustauth_django.engine.plans import Call, adrive, drive
from rustauth_django.limits.operations import Attempt, Reservation
from rustauth_django.limits.outages import FAILURES, PAUSE, Limiter
from rustauth_django.limits.rates import OnError, Uncounted
from rustauth_django.signals import backend_state_changed

from .servers import BINARIES, Server
from .site import Site

RULE = RateLimitRule(60, 2)
NAME = next(iter(BINARIES))


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Asked:
    """A limiter on a server that can be killed; it counts how often that is asked."""

    def __init__(self, url: str, on_error: OnError, runner: asyncio.Runner | None) -> None:
        self.stores = RustAuthStores.from_url(url)
        self.clock, self.runner, self.times = Clock(), runner, 0
        self.limiter = Limiter(self.stores.backend, on_error, self.clock)

    def ask(self, on_error: OnError | None = None) -> Any:
        operation = self.stores.rate_limit_store.consumption([("key", RULE)])
        plan = self.limiter.consume(operation, on_error)
        if self.runner is None:
            return drive(plan, self.perform)
        return self.runner.run(adrive(plan, self.aperform))

    def perform(self, step: Operation[Any] | Call) -> Any:
        if isinstance(step, Call):
            return step.run()
        self.times += 1
        return self.stores.backend.run(step)

    async def aperform(self, step: Operation[Any] | Call) -> Any:
        if isinstance(step, Call):
            return await step.arun()
        self.times += 1
        return await self.stores.backend.arun(step)

    def close(self) -> None:
        if self.runner:
            self.runner.run(self.stores.aclose())
        self.stores.close()


@pytest.fixture
def mortal() -> Iterator[Server]:
    with Server(NAME) as server:
        yield server


@pytest.fixture
def asked(mortal: Server, runner: asyncio.Runner | None) -> Iterator[Asked]:
    asked = Asked(mortal.plain_url, "local", runner)
    yield asked
    asked.close()


def test_after_a_few_failures_one_probe_at_a_time_asks(asked: Asked, mortal: Server) -> None:
    """All others are answered here, at once; and it comes back by itself."""
    assert asked.ask().permitted
    mortal.kill()
    assert [asked.ask().permitted for _ in range(9)] == [True] * 2 + [False] * 7
    assert asked.times == 1 + FAILURES
    asked.clock.now += PAUSE
    for _ in range(5):
        asked.ask()
    assert asked.times == 2 + FAILURES
    mortal.start()
    assert not asked.ask().permitted, "counted here until the next probe"
    asked.clock.now += PAUSE
    assert [asked.ask().permitted for _ in range(3)] == [True, True, False], "and there again"
    assert PAUSE < 1


def test_a_probe_that_is_never_heard_of_holds_nobody_up(asked: Asked, mortal: Server) -> None:
    """Its client hung up: the next one asks after the same pause."""
    mortal.kill()
    for _ in range(FAILURES):
        asked.ask()
    mortal.start()
    asked.clock.now += PAUSE
    plan = asked.limiter.consume(asked.stores.rate_limit_store.consumption([("key", RULE)]), None)
    next(plan)
    plan.close()
    before = asked.times
    asked.ask()
    assert asked.times == before
    asked.clock.now += PAUSE
    asked.ask()
    assert asked.times == before + 1


def test_a_refusal_from_memory_says_nothing_of_the_server(mortal: Server, runner: Any) -> None:
    """A flood of one client neither keeps the breaker closed nor takes the others' probes."""
    asked = Asked(mortal.url, "local", runner)
    asked.stores = RustAuthStores(asked.stores.backend, local_refusals=60)
    limits = asked.stores.rate_limit_store

    def ask(key: str) -> Any:
        plan = asked.limiter.consume(limits.consumption([(key, RULE)]), None)
        if runner is None:
            return drive(plan, asked.perform)
        return runner.run(adrive(plan, asked.aperform))

    while ask("flood").permitted:
        pass
    mortal.kill()
    for number in range(FAILURES + 3):
        ask("flood")
        assert ask(f"other-{number}").permitted
    assert not asked.limiter._breaker.may_ask()
    mortal.start()
    asked.clock.now += PAUSE
    assert not ask("flood").permitted
    assert ask("last").permitted
    assert asked.limiter._breaker.may_ask(), "it was asked, and answered"
    asked.close()


def test_policies_answer_in_the_servers_place(asked: Asked, mortal: Server) -> None:
    """Also once the server is no longer asked."""
    mortal.kill()
    for _ in range(FAILURES + 2):
        assert asked.ask("allow") == Uncounted(permitted=True, retry_after=0)
        denied = asked.ask("deny")
        assert (denied.permitted, denied.retry_after) == (False, 1)
        with pytest.raises(BackendUnavailable):
            asked.ask("raise")


def test_an_outage_is_said_once(
    asked: Asked, mortal: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """One line and one signal as it begins, and as it ends."""
    told: list[Any] = []

    def note(**named: Any) -> None:
        told.append((named["available"], named["location"], named["error"] is None))

    backend_state_changed.connect(note)
    try:
        asked.ask()
        mortal.kill()
        for _ in range(20):
            asked.ask()
            asked.clock.now += PAUSE / 2
        mortal.start()
        asked.clock.now += PAUSE
        for _ in range(3):
            asked.ask()
    finally:
        backend_state_changed.disconnect(note)
    where = asked.stores.backend.location
    assert told == [(False, where, False), (True, where, True)]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "ON_ERROR applies: rate limit consume failed" in caplog.records[0].getMessage()


def test_an_attempt_is_settled_where_it_was_counted(asked: Asked, mortal: Server) -> None:
    """On the server, or in this process's memory; no error while the server is away."""
    operation = asked.stores.rate_limit_store.attempt([("key", RULE)])

    def reserve() -> Reservation:
        verdict, reservation = drive(asked.limiter.reserve(operation, None), asked.perform)
        assert verdict.permitted
        assert reservation is not None
        return reservation

    def undo(reservation: Reservation) -> None:
        attempts = [Attempt(bucket, at, "undo") for bucket, at in reservation.counted]
        drive(asked.limiter.settle(attempts, is_here=reservation.is_here), asked.perform)

    there = reserve()
    undo(there)
    there = reserve()
    mortal.kill()
    here = reserve()
    assert (there.is_here, here.is_here) == (False, True)
    undo(there)
    for _ in range(RULE.max - 1):
        reserve()
    assert not asked.ask().permitted
    undo(here)
    assert asked.ask().permitted


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param("loading", marks=pytest.mark.slow),
        "read-only",
        "out of memory",
        pytest.param("hung", marks=pytest.mark.slow),
    ],
)
def test_a_server_that_cannot_serve_is_away(asked: Asked, mortal: Server, trouble: str) -> None:
    """Not only one that is gone: each is met by the policy, and then by the breaker."""
    with mortal.client() as raw:
        if trouble == "read-only":
            raw.replicaof("127.0.0.1", "1")
        elif trouble == "out of memory":
            raw.config_set("maxmemory", "1")
        elif trouble == "hung":
            mortal.stop_answering()
        else:
            for i in range(500):
                raw.set(f"key-{i}", secrets.token_hex(1_000))
            raw.save()
            mortal.kill()
            # A tenth of a second for each key, and a look at the clients after each.
            slow = ["--key-load-delay", "100000", "--loading-process-events-interval-bytes", "1024"]
            mortal.start(*slow, loading=True)
    for _ in range(FAILURES):
        assert isinstance(asked.ask("deny"), Uncounted)
    times = asked.times
    assert asked.ask("deny").retry_after == 1
    assert asked.times == times, "the breaker has opened"


@pytest.mark.parametrize("policy", ["local", "deny", "allow"])
@pytest.mark.slow
def test_killing_the_server_under_load_is_no_500(
    policy: str, prefix: str, runner: Any, mortal: Server
) -> None:
    """And limits hold again within a second of its return."""
    site = Site(mortal.url, prefix, runner)
    site.configure(ENABLED=True, ON_ERROR=policy, RULES=[{"path": "*", "rate": "5/h"}])
    expected = {"local": {200, 429}, "deny": {503}, "allow": {200}}[policy]
    try:
        assert site.statuses("GET", "/items/", 6)[-1] == 429
        mortal.kill()
        seen = set(site.statuses("GET", "/items/", 40, peer="192.0.2.1"))
        assert seen == expected
        mortal.start()
        deadline = time.monotonic() + 10  # a busy machine's; a quiet one takes PAUSE
        while not site.buckets():
            site.get("/items/", peer="192.0.2.2")
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert site.statuses("GET", "/items/", 6, peer="192.0.2.3") == [200] * 5 + [429]
    finally:
        site.close()


def test_the_limiter_is_back_within_a_second_of_the_server(runner: Any, mortal: Server) -> None:
    """By the breaker's own clock: no pause is longer, whatever number of failures came."""
    asked = Asked(mortal.url, "local", runner)
    mortal.kill()
    for _ in range(50):
        asked.ask()
        asked.clock.now += 0.1
    mortal.start()
    asked.clock.now += 1.0
    before = asked.times
    asked.ask()
    assert asked.times == before + 1
    asked.close()


def test_the_guard_uses_the_setting(dead_url: str) -> None:
    """ON_ERROR and the stores of the settings."""
    with override_settings(RUSTAUTH={"URL": dead_url, "RATE_LIMIT": {"ON_ERROR": "allow"}}):
        guard = get_guard()
        operation = guard.store.consumption([("key", RULE)])
        plan = guard._limiter.consume(operation, None)
        assert guard.run(plan) == Uncounted(permitted=True, retry_after=0)


def test_the_stand_in_counts_by_the_same_rules(runner: Any, dead_url: str) -> None:
    """Every algorithm, in this process's memory."""
    asked = Asked(dead_url, "local", runner)
    backend: Backend = MemoryBackend()
    rules = [RateLimitRule(60, 2, "gcra"), RateLimitRule.parse("3/h")]
    for _ in range(4):
        operation = asked.stores.rate_limit_store.consumption([("key", rule) for rule in rules])
        got = drive(asked.limiter.consume(operation, None), asked.perform)
        assert got.permitted == all(one.permitted for one in backend.run(operation))
    asked.close()
