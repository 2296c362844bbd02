"""Races: who lets how many through, and whether what was revoked stays so."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import UpdateError

from benchmarks import limiters
from benchmarks.limiters.rustauth import NAME
from benchmarks.measuring import Bench
from benchmarks.report import Result, Table
from rustauth_django.sessions import SessionStore, list_sessions, revoke_sessions

from .sessions import SESSIONS, begin

THREADS, ALLOWED = 60, 5
#: For each call that the other parts make in a round, to have 10,000 of them.
RACES = 10


def measure(bench: Bench) -> Result:
    passed: dict[str, list[int]] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        checks = [
            (f"{limiter.NAME}, {algorithm}", check, limiter.client)
            for limiter in limiters.load().values()
            for algorithm, check in limiter.checks(bench.url, ALLOWED).items()
        ]
        for number in range(bench.rounds):
            for name, check, client in checks:
                bench.client.flushall()  # limits' strategies would share a key
                requests = [client(number) for _ in range(THREADS)]
                passed.setdefault(name, []).append(race(pool, check, requests))
    rows = [[name, f"{between(counts)} pass"] for name, counts in passed.items()]
    races = bench.calls * RACES
    name = f"{NAME}, {races:,} saves of a session that race its revocation"
    alive = revived(races)
    rows.append([name, f"{alive} sessions live on"])
    table = Table(["", f"{THREADS} threads at once, {ALLOWED} allowed"], rows)
    return Result(table, facts={"revived": alive})


def race(pool: ThreadPoolExecutor, check: Callable[[Any], bool], requests: list[Any]) -> int:
    """How many pass, of as many threads as there are requests, which start at one barrier."""
    barrier = threading.Barrier(len(requests))

    def enter(request: Any) -> bool:
        barrier.wait()
        return check(request)

    return sum(pool.map(enter, requests))


def between(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def revived(races: int) -> int:
    """Of so many sessions that were saved while they were revoked, how many are still there."""
    user, alive = User(pk=1), 0
    with ThreadPoolExecutor(2) as pool:
        for _ in range(races):
            session = begin(SessionStore, SESSIONS["a user"])
            both = [pool.submit(save, session), pool.submit(revoke_sessions, user)]
            for one in both:
                one.result()
            alive += SessionStore().exists(session.session_key) or bool(list_sessions(user))
    return alive


def save(session: Any) -> None:
    session["late"] = True
    with suppress(UpdateError):  # which is raised where the revocation was faster
        session.save()
