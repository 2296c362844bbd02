"""The guard while the server is away: who waits, what is said, when it is asked again."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.urls import resolve

from rustauth_django import RustAuthStores
from rustauth_django.conf import get_settings
from rustauth_django.guard import PAUSE, Guard

from .servers import BINARIES, Server


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Site:
    """A guard on a server that can be killed."""

    def __init__(self, server: Server, runner: asyncio.Runner | None) -> None:
        self.clock = Clock()
        self.runner = runner
        self.stores = RustAuthStores.from_url(server.url)
        with override_settings(RUSTAUTH={"RATE_LIMIT": {"ENABLED": True, "MAX": 2}}):
            self.guard = Guard(get_settings().rate_limit, self.stores, self.clock)

    def ask(self) -> int:
        request: HttpRequest = RequestFactory().get("/items/")
        request.resolver_match = resolve("/items/")
        if self.runner is None:
            response = self.guard.check(request, None)
        else:
            response = self.runner.run(self.guard.acheck(request, None))
        return 200 if response is None else response.status_code

    def close(self) -> None:
        if self.runner:
            self.runner.run(self.stores.aclose())
        self.stores.close()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(next(iter(BINARIES))) as server:
        yield server


@pytest.fixture
def site(server: Server, runner: asyncio.Runner | None) -> Iterator[Site]:
    site = Site(server, runner)
    yield site
    site.close()


def test_a_server_that_failed_is_left_alone_for_a_while(
    site: Site, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """One request in each pause asks it; all are counted here meanwhile."""
    assert site.ask() == 200
    server.kill()
    assert [site.ask() for _ in range(3)] == [200, 200, 429]
    server.start()
    site.clock.now += PAUSE / 2
    assert site.ask() == 429
    site.clock.now += PAUSE / 2
    assert [site.ask() for _ in range(3)] == [200, 200, 429]
    assert len(caplog.records) == 2


def test_an_outage_is_said_once(
    site: Site, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """However long it lasts and however often the server is asked."""
    server.kill()
    for _ in range(20):
        site.ask()
        site.clock.now += PAUSE
    (record,) = caplog.records
    assert "Rate limits are counted in this process for now" in record.getMessage()


def test_html_is_left_to_django_to_render(site: Site) -> None:
    """The page is rendered where its template may ask the database."""
    request: Any = RequestFactory().get("/items/", headers={"accept": "text/html"})
    request.resolver_match = resolve("/items/")
    responses = [site.guard.check(request, None) for _ in range(3)]
    assert responses[:2] == [None, None]
    assert isinstance(responses[2], HttpResponse)
    assert not responses[2].is_rendered  # type: ignore[attr-defined]
