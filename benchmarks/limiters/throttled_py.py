"""throttled-py: its fastest algorithm, and GCRA."""

from collections.abc import Awaitable, Callable

from throttled import RateLimiterType, Throttled
from throttled import asyncio as throttled_asyncio
from throttled.store import RedisStore

from .rustauth import client

__all__ = ["NAME", "async_checks", "checks", "client"]

NAME = "throttled-py"
ALGORITHMS = {
    "fixed window": RateLimiterType.FIXED_WINDOW.value,
    "GCRA": RateLimiterType.GCRA.value,
}


def checks(url: str, limit: int) -> dict[str, Callable[[str], bool]]:
    store = RedisStore(server=url)

    def check(using: str) -> Callable[[str], bool]:
        throttle = Throttled(using=using, quota=f"{limit}/h burst {limit}", store=store)
        return lambda client: not throttle.limit(client).limited

    return {name: check(using) for name, using in ALGORITHMS.items()}


def async_checks(url: str, limit: int) -> dict[str, Callable[[str], Awaitable[bool]]]:
    store = throttled_asyncio.RedisStore(server=url)

    def check(using: str) -> Callable[[str], Awaitable[bool]]:
        quota = f"{limit}/h burst {limit}"
        throttle = throttled_asyncio.Throttled(using=using, quota=quota, store=store)

        async def permits(client: str) -> bool:
            return not (await throttle.limit(client)).limited

        return permits

    return {name: check(using) for name, using in ALGORITHMS.items()}
