"""Sessions beside Django's cache sessions on django-redis."""

from collections.abc import Callable
from itertools import count
from typing import Any

from django.contrib.sessions.backends.cache import SessionStore as CacheSession

from benchmarks.limiters.rustauth import NAME
from benchmarks.measuring import Bench, Contender, Kind, median, ratio, repeating, take_turns
from benchmarks.report import Bar, Chart, Result, Table
from rustauth_django.sessions import SessionStore

CACHE = "Django's cache session"
CART = {"cart": [1, 2, 3]}
SESSIONS = {
    "a visitor": CART,
    "a user": {"_auth_user_id": "1", "_auth_user_hash": "x" * 64, **CART},
}
ENGINES: dict[str, tuple[Any, Kind]] = {
    CACHE: (CacheSession, "peer"),
    NAME: (SessionStore, "ours"),
}


def measure(bench: Bench) -> Result:
    contenders = []
    names = [f"{what}, {who}" for who in SESSIONS for what in ("load", "save", "load and save")]
    for who, data in SESSIONS.items():
        for engine, (store, kind) in ENGINES.items():
            for what, call in actions(begin(store, data)).items():
                name = f"{what}, {who}: {engine}"
                contenders.append(Contender(name, repeating(call), kind=kind))
    samples = take_turns(contenders, bench.rounds, bench.calls)
    rows, bars, ratios = [], [], {}
    for name in names:
        ours, cache = f"{name}: {NAME}", f"{name}: {CACHE}"
        ratios[name] = ratio(samples, ours, cache)
        bars.append(Bar(name, ratios[name], "ours"))
        rows.append(
            [
                name,
                f"{median(samples, ours):.1f}",
                f"{median(samples, cache):.1f}",
                f"{ratios[name].median:.2f}",
                str(ratios[name]),
            ]
        )
    facts = {
        f"session {what}": max(ratios[f"{what}, {who}"].median for who in SESSIONS)
        for what in ("load", "save")
    }
    columns = ["", f"us, {NAME}", f"us, {CACHE}", "ratio", "quartiles"]
    axis = "times Django's cache session; less is better"
    return Result(Table(columns, rows), [Chart("sessions", "Sessions", axis, bars, CACHE)], facts)


def begin(store: Any, data: dict[str, Any]) -> Any:
    """A session with this in it."""
    session = store()
    session.update(data)
    session.save()
    return session


def actions(session: Any) -> dict[str, Callable[[], Any]]:
    def load() -> None:
        if not type(session)(session.session_key).load():
            raise LookupError("the session is gone")

    numbers = count()

    def save() -> None:
        # What was not changed, this app does not write.
        session["visits"] = next(numbers)
        session.save()

    def both() -> None:
        load()
        save()

    return {"load": load, "save": save, "load and save": both}
