"""What a type checker sees of the public API; checked by mypy, never run."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import assert_type

from django.http import HttpRequest, HttpResponse

from rustauth_django import (
    RateLimitDecision,
    RateLimitRule,
    RustAuthStores,
    rate_limit_store,
    secondary_storage,
    verification,
)
from rustauth_django.decorators import rate_limit, rate_limit_exempt
from rustauth_django.engine.backends import MemoryBackend
from rustauth_django.engine.operations import Get, Set


def sync() -> None:
    assert_type(secondary_storage.get("key"), str | None)
    assert_type(secondary_storage.set_if_not_exists("key", "value", timedelta(hours=1)), bool)
    assert_type(secondary_storage.compare_and_set("key", None, "value", ttl=1.5), bool)
    assert_type(secondary_storage.ttl("key"), int | None)
    assert_type(secondary_storage.list_keys(), list[str])
    assert_type(secondary_storage.iter_keys(), Iterator[str])
    assert_type(secondary_storage.clear(), int)
    decision = rate_limit_store.consume("key", RateLimitRule(window=10, max=3))
    assert_type(decision, RateLimitDecision)
    assert_type(decision.retry_after, int)
    assert_type(decision.rule, RateLimitRule | None)
    assert_type(RateLimitRule.parse("5/m"), RateLimitRule)
    several = [("address", RateLimitRule.parse("5/m")), ("account", RateLimitRule(10, 3))]
    assert_type(rate_limit_store.consume_all(several, cost=2), RateLimitDecision)
    assert_type(verification.create("p", ttl=timedelta(hours=1)), str)
    assert_type(verification.consume("p", "token"), verification.Verification | None)
    RateLimitRule(10, 3, "bucket")  # type: ignore[arg-type]
    with RustAuthStores.from_url("memory://") as stores:
        assert_type(stores, RustAuthStores)


async def asynchronous() -> None:
    assert_type(await secondary_storage.atake("key"), str | None)
    assert_type(secondary_storage.aiter_keys(), AsyncIterator[str])
    assert_type(await rate_limit_store.aconsume("key", RateLimitRule(10, 3)), RateLimitDecision)


def operations() -> None:
    backend = MemoryBackend()
    assert_type(backend.run(Get("key")), str | None)
    assert_type(backend.run(Set("key", "value", None)), bool)


@rate_limit_exempt
def view(request: HttpRequest, pk: int) -> HttpResponse:
    return HttpResponse()


@rate_limit("5/m", RateLimitRule(1, 1), key=("ip", "post:email"), methods=["POST"])
async def limited(request: HttpRequest, pk: int) -> HttpResponse:
    return HttpResponse()


async def async_decorators(request: HttpRequest) -> None:
    assert_type(await limited(request, 1), HttpResponse)


def decorators(request: HttpRequest) -> None:
    assert_type(view(request, 1), HttpResponse)
    view(request, "1")  # type: ignore[arg-type]  # the view's own signature is kept
