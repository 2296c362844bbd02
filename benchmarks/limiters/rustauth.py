"""This project."""

import time
from collections.abc import Awaitable, Callable

from benchmarks.measuring import PATIENT, WINDOW, Refused, address
from rustauth_django import RateLimitRule, RateLimitStore, RustAuthStores

NAME = "rustauth-django"


def open_stores(url: str) -> RustAuthStores:
    return RustAuthStores.from_url(url, client_options=PATIENT)


def rules(limit: int) -> dict[str, RateLimitRule]:
    """One rule for each algorithm."""
    return {
        "rustauth": RateLimitRule(WINDOW, limit, "rustauth"),
        "fixed-window": RateLimitRule(WINDOW, limit, "fixed-window"),
        "sliding-window": RateLimitRule(WINDOW, limit, "sliding-window"),
        "sliding-log": RateLimitRule(WINDOW, limit, "sliding-log"),
        "gcra": RateLimitRule(WINDOW, limit, "gcra"),
        "lockout": RateLimitRule(WINDOW, limit, "lockout", escalate=(60, 300)),
    }


def client(number: int) -> str:
    return f"{address(number)}|/view"


def checks(url: str, limit: int) -> dict[str, Callable[[str], bool]]:
    store = open_stores(url).rate_limit_store

    def check(rule: RateLimitRule) -> Callable[[str], bool]:
        return lambda client: store.consume(client, rule).permitted

    return {name: check(rule) for name, rule in rules(limit).items()}


def async_checks(url: str, limit: int) -> dict[str, Callable[[str], Awaitable[bool]]]:
    store = open_stores(url).rate_limit_store

    def check(rule: RateLimitRule) -> Callable[[str], Awaitable[bool]]:
        async def permits(client: str) -> bool:
            return (await store.aconsume(client, rule)).permitted

        return permits

    return {name: check(rule) for name, rule in rules(limit).items()}


def fill_half(store: RateLimitStore, key: str, rule: RateLimitRule) -> None:
    """As many requests as are permitted in half a window, in the middle of it."""
    fill(store, key, rule, rule.max // 2, WINDOW * 3 // 4, WINDOW // 4)


def fill_all(store: RateLimitStore, key: str, rule: RateLimitRule) -> None:
    """One request for each place: the next takes that of one that has just left the window."""
    fill(store, key, rule, rule.max, WINDOW + 0.5, 1)


def fill(
    store: RateLimitStore,
    key: str,
    rule: RateLimitRule,
    requests: int,
    oldest: float,
    newest: float,
) -> None:
    """Requests at even distances, the first and the last so many seconds ago."""
    now_ms = time.time_ns() // 1_000_000
    for number in range(requests):
        ago = oldest - (oldest - newest) * number / (requests - 1)
        if not store.consume(key, rule, now_ms - int(ago * 1000)).permitted:
            raise Refused(key)
