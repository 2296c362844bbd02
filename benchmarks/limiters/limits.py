"""limits: its fastest strategy, and its exact one; async on both clients that it can have."""

from collections.abc import Awaitable, Callable

from limits import RateLimitItemPerHour
from limits.aio.storage import RedisStorage as AsyncRedisStorage
from limits.aio.strategies import FixedWindowRateLimiter as AsyncFixedWindowRateLimiter
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from .rustauth import client

__all__ = ["NAME", "async_checks", "checks", "client"]

NAME = "limits"


def checks(url: str, limit: int) -> dict[str, Callable[[str], bool]]:
    storage, item = RedisStorage(url), RateLimitItemPerHour(limit)
    fixed, moving = FixedWindowRateLimiter(storage), MovingWindowRateLimiter(storage)
    return {
        "fixed window": lambda client: fixed.hit(item, client),
        "moving window": lambda client: moving.hit(item, client),
    }


def async_checks(url: str, limit: int) -> dict[str, Callable[[str], Awaitable[bool]]]:
    item = RateLimitItemPerHour(limit)
    storage = AsyncRedisStorage(f"async+{url}", implementation="redispy")
    limiter = AsyncFixedWindowRateLimiter(storage)
    return {"fixed window": lambda client: limiter.hit(item, client)}
