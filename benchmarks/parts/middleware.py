"""What RateLimitMiddleware adds to a view that does nothing, with the settings' defaults."""

import asyncio
from typing import Any

from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest
from django.test import AsyncRequestFactory, RequestFactory, override_settings
from redis import asyncio as aioredis

from benchmarks.measuring import (
    Bench,
    Contender,
    Visitors,
    address,
    awaited,
    median,
    repeating,
    spread,
    take_turns,
    visited,
)
from benchmarks.report import Bar, Chart, Result, Table

MIDDLEWARE = ["rustauth_django.middleware.RateLimitMiddleware"]
FACES = {"WSGI": "redis-py, INCR", "ASGI": "redis.asyncio, INCR"}


def measure(bench: Bench) -> Result:
    with asyncio.Runner() as runner:
        plain = aioredis.Redis.from_url(bench.url)

        async def incr(_: Any) -> bool:
            return bool(await plain.incr("plain"))

        contenders = [
            Contender(FACES["WSGI"], repeating(lambda: bench.client.incr("plain"))),
            wsgi("WSGI, alone", []),
            wsgi("WSGI, limited", MIDDLEWARE),
            awaited(FACES["ASGI"], incr, Visitors(address), runner),
            asgi("ASGI, alone", [], runner),
            asgi("ASGI, limited", MIDDLEWARE, runner),
        ]
        samples = take_turns(contenders, bench.rounds, bench.calls)
        runner.run(plain.aclose())
    rows, bars, facts = [], [], {}
    for face, baseline in FACES.items():
        turns = zip(samples[f"{face}, limited"], samples[f"{face}, alone"], strict=True)
        added = [limited - alone for limited, alone in turns]
        ratios = spread(one / incr for one, incr in zip(added, samples[baseline], strict=True))
        facts[face.lower()] = ratios.median
        bars.append(Bar(f"{face}, to {baseline}", ratios, "ours"))
        rows.append(
            [
                face,
                f"{median(samples, f'{face}, alone'):.1f}",
                f"{spread(added).median:.1f}",
                f"{median(samples, baseline):.1f}",
                f"{ratios.median:.2f}",
                str(ratios),
            ]
        )
    columns = ["", "us, view alone", "us, added", "us, INCR", "added to INCR", "quartiles"]
    title = "What the middleware adds to a request"
    chart = Chart(
        "middleware", title, "times the client's INCR; less is better", bars, "the client's INCR"
    )
    return Result(Table(columns, rows), [chart], facts)


def wsgi(name: str, middleware: list[str]) -> Contender:
    with override_settings(MIDDLEWARE=middleware):
        handler = WSGIHandler()

    def make(number: int) -> HttpRequest:
        return RequestFactory(REMOTE_ADDR=address(number)).get("/view")

    def check(request: HttpRequest) -> bool:
        return handler.get_response(request).status_code == 200

    return visited(name, check, Visitors(make))


def asgi(name: str, middleware: list[str], runner: asyncio.Runner) -> Contender:
    with override_settings(MIDDLEWARE=middleware):
        handler = ASGIHandler()

    def make(number: int) -> HttpRequest:
        headers = [(b"host", b"testserver")]
        client = [address(number), 0]
        return AsyncRequestFactory().request(path="/async-view", headers=headers, client=client)

    async def check(request: HttpRequest) -> bool:
        return (await handler.get_response_async(request)).status_code == 200

    return awaited(name, check, Visitors(make), runner)
