"""Exactly ``max`` permits, however many ask at once."""

import asyncio
import multiprocessing
from concurrent.futures import ThreadPoolExecutor

from rustauth_django import RateLimitRule, RustAuthStores

from .servers import Server

RULE = RateLimitRule(window=60, max=10)


def test_64_threads_get_exactly_max(stores: RustAuthStores) -> None:
    """RL-26, RL-31: on every backend, and the counts are 1 to max."""
    with ThreadPoolExecutor(64) as pool:
        decisions = list(
            pool.map(lambda _: stores.rate_limit_store.consume("key", RULE), range(256))
        )
    permitted = [decision for decision in decisions if decision.permitted]
    assert sorted(decision.remaining for decision in permitted) == list(range(10))


async def test_500_tasks_get_exactly_max(stores: RustAuthStores) -> None:
    """RL-26: more tasks than connections wait for their turn."""
    store = stores.rate_limit_store
    decisions = await asyncio.gather(*(store.aconsume("key", RULE) for _ in range(500)))
    assert sum(decision.permitted for decision in decisions) == 10
    await stores.aclose()


def test_a_fork_shares_no_connection(one_server: Server, prefix: str) -> None:
    """A client used before a fork works on both sides of it."""
    with RustAuthStores.from_url(one_server.url, key_prefix=prefix) as stores:
        storage = stores.secondary_storage
        storage.set("key", "value", 60)
        receiver, sender = multiprocessing.Pipe(duplex=False)

        def child() -> None:
            answers = [storage.get("key") for _ in range(200)]
            answers.append(asyncio.run(storage.aget("key")))
            sender.send(set(answers))

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        assert {storage.get("key") for _ in range(200)} == {"value"}
        process.join(timeout=20)
        assert process.exitcode == 0
        assert receiver.recv() == {"value"}
        sender.close()
        receiver.close()
