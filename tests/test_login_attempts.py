"""Attempts to sign in are counted before a password is looked at, and settled afterwards."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth import aauthenticate, authenticate, login
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path
from rest_framework.authentication import BasicAuthentication
from rest_framework.response import Response
from rest_framework.views import APIView

from rustauth_django import rate_limit_store
from rustauth_django.connections import get_guard
from rustauth_django.limits.keys import account_key

from .people import PASSWORD, PeopleBackend
from .site import PeerClient, Site

# The account is looked up, whether or not it is there.
pytestmark = pytest.mark.django_db(transaction=True)

BACKENDS = ["rustauth_django.login.LoginProtection", f"{__name__}.Gate"]
SETTINGS: dict[str, Any] = {
    "ENABLED": True,
    "RULES": [{"path": "*", "disabled": True}],
    # A browser that has signed in would have a counter of its own.
    "LOGIN": {"DEVICE_COOKIE": None},
}
ATTEMPTS = 40
HELD, CRASH = "held", "crash"


class Gate(PeopleBackend):
    """Counts the passwords that it looks at, and holds some of them until the gate opens."""

    checks = 0
    lock = threading.Lock()

    @classmethod
    def close(cls) -> None:
        cls.checks = 0
        cls.opened, cls.reached = threading.Event(), threading.Semaphore(0)
        cls.aopened, cls.areached = asyncio.Event(), asyncio.Semaphore(0)

    def authenticate(self, request: Any, **credentials: Any) -> Any:
        with self.lock:
            Gate.checks += 1
        if credentials["password"] == HELD:
            self.reached.release()
            assert self.opened.wait(30)
        if credentials["password"] == CRASH:
            raise RuntimeError
        return super().authenticate(request, **credentials)

    async def aauthenticate(self, request: Any, **credentials: Any) -> Any:
        Gate.checks += 1
        if credentials["password"] == HELD:
            self.areached.release()
            await self.aopened.wait()
        return super().authenticate(request, **credentials)


def sign_in(request: HttpRequest) -> HttpResponse:
    user = authenticate(request, **request.POST.dict())
    if user is not None:
        login(request, user)
    return HttpResponse(status=200 if user else 401)


async def acheck(request: HttpRequest) -> HttpResponse:
    """Finds somebody and signs nobody in, as for a token."""
    user = await aauthenticate(request, **request.POST.dict())
    return HttpResponse(status=200 if user else 401)


def by_address_first(request: HttpRequest) -> HttpResponse:
    """Takes what was typed as an e-mail address, and then as a name."""
    sent = request.POST.dict()
    found = authenticate(request, username=sent["username"], password="") or authenticate(
        request, **sent
    )
    return HttpResponse(status=200 if found else 401)


def forbid(request: HttpRequest) -> HttpResponse:
    assert authenticate(request, **request.POST.dict())
    raise PermissionDenied


class Basic(APIView):
    authentication_classes = (BasicAuthentication,)

    def get(self, request: Any) -> Response:
        return Response(status=200 if request.user.is_authenticated else 401)


urlpatterns = [
    path("api/", sign_in),
    path("a/api/", acheck),
    path("form/", LoginView.as_view(template_name="admin/login.html", next_page="/form/")),
    path("both/", by_address_first),
    path("basic/", Basic.as_view()),
    path("forbidden/", forbid),
]


@pytest.fixture
def urlconf() -> str:
    return __name__


@pytest.fixture(autouse=True)
def gate() -> None:
    Gate.close()


@pytest.fixture(autouse=True)
def people() -> None:
    """The users whom the backend signs in, so that the database finds them."""
    for pk, name in ((1, "ada"), (2, "grace")):
        User.objects.create(pk=pk, username=name)


@pytest.fixture
def protected(site: Site) -> Site:
    site.settings["AUTHENTICATION_BACKENDS"] = BACKENDS
    site.configure(**SETTINGS)
    return site


@pytest.fixture
def local(memory_site: Site) -> Site:
    memory_site.settings["AUTHENTICATION_BACKENDS"] = BACKENDS
    memory_site.configure(**SETTINGS)
    return memory_site


def wrong(name: str = "ada") -> dict[str, str]:
    return {"username": name, "password": "wrong"}


def held(name: str = "ada") -> dict[str, str]:
    return {"username": name, "password": HELD}


def right(name: str = "ada") -> dict[str, str]:
    return {"username": name, "password": PASSWORD}


Sent = list[tuple[dict[str, str], str]]


class Crowd:
    """Forms sent at the same time from some addresses: by threads, or by tasks on a loop."""

    def __init__(self, site: Site, sent: Sent) -> None:
        """Returns when each form is answered or is held at the gate."""
        self.runner = site.runner
        if self.runner:
            self.tasks = self.runner.run(self._start(sent))
            return
        self.pool = ThreadPoolExecutor(len(sent))
        self.requests = [self.pool.submit(self._post, *one) for one in sent]
        for one in self.requests:
            one.add_done_callback(lambda _: Gate.reached.release())
        for _ in sent:
            assert Gate.reached.acquire(timeout=30)

    def finish(self) -> list[int]:
        """Open the gate; the statuses."""
        if self.runner:
            return self.runner.run(self._finish())
        Gate.opened.set()
        self.pool.shutdown()
        return [one.result() for one in self.requests]

    def _post(self, data: dict[str, str], peer: str) -> int:
        return Client().post("/api/", data, REMOTE_ADDR=peer).status_code

    async def _start(self, sent: Sent) -> "list[asyncio.Task[int]]":
        tasks = [asyncio.create_task(self._apost(*one)) for one in sent]
        for task in tasks:
            task.add_done_callback(lambda _: Gate.areached.release())
        for _ in sent:
            await Gate.areached.acquire()
        return tasks

    async def _apost(self, data: dict[str, str], peer: str) -> int:
        client = PeerClient()
        client.peer = (peer, 1)
        return (await client.post("/a/api/", data)).status_code

    async def _finish(self) -> list[int]:
        Gate.aopened.set()
        return await asyncio.gather(*self.tasks)


@pytest.mark.parametrize("addresses", [1, ATTEMPTS])
def test_five_passwords_are_looked_at(protected: Site, addresses: int) -> None:
    """Of forty wrong ones at once, whatever the addresses; and then one waits as ever."""
    sent = [(held(), f"192.0.2.{index % addresses}") for index in range(ATTEMPTS)]
    statuses = Crowd(protected, sent).finish()
    assert Gate.checks == 5
    assert sorted(statuses) == [401] * 5 + [429] * (ATTEMPTS - 5)
    refused = protected.post("/api/", right(), peer="198.51.100.1")
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 60


def test_twenty_of_one_address_are_looked_at(protected: Site) -> None:
    """Whatever the accounts."""
    sent = [(held(f"name-{index}"), "192.0.2.1") for index in range(ATTEMPTS)]
    statuses = Crowd(protected, sent).finish()
    assert Gate.checks == 20
    assert sorted(statuses) == [401] * 20 + [429] * 20


def test_a_success_forgives_nothing_that_is_under_way(protected: Site) -> None:
    """Two failures that are over are forgiven; two that are being looked at count on."""
    assert protected.statuses("POST", "/api/", 2, wrong()) == [401] * 2
    crowd = Crowd(protected, [(held(), "192.0.2.1")] * 2)
    assert protected.post("/api/", right()).status_code == 200
    assert protected.statuses("POST", "/api/", 4, wrong()) == [401] * 3 + [429]
    assert crowd.finish() == [401] * 2


@pytest.mark.parametrize("way", ["/api/", "/a/api/", "/form/", "/both/", "/basic/"])
def test_twelve_right_passwords_pass(local: Site, way: str) -> None:
    """Whether somebody is signed in or only found, and under how many names one asks."""
    basic = {"authorization": "Basic YWRhOmNvcnJlY3QgaG9yc2U="}
    for _ in range(12):
        answer = local.get(way, **basic) if way == "/basic/" else local.post(way, right())
        assert answer.status_code in (200, 302)
    for rule, key in (
        (get_guard().options.login.address[0], "127.0.0.1|login"),
        (
            get_guard().options.login.account[0],
            account_key(get_guard().options.visitors.typed("ada")),
        ),
    ):
        assert rate_limit_store.peek(key, rule).remaining == rule.max


def test_the_fifth_attempt_begins_a_block_that_a_success_ends(local: Site) -> None:
    """And its step of escalation: after it, five failures wait for a minute, as at first."""
    for _ in range(3):
        assert local.statuses("POST", "/api/", 4, wrong()) == [401] * 4
        assert local.post("/api/", right()).status_code == 200
    assert local.statuses("POST", "/api/", 5, wrong()) == [401] * 5
    assert int(local.post("/api/", right()).headers["Retry-After"]) <= 60


def test_a_success_gives_back_what_it_took_from_the_address(local: Site) -> None:
    """And nothing else: an account of one's own frees no address."""
    for index in range(19):
        local.post("/api/", wrong(f"name-{index}"))
    for _ in range(3):
        assert local.post("/api/", right()).status_code == 200
    assert local.post("/api/", wrong("grace")).status_code == 401
    assert local.post("/api/", right()).status_code == 429


def test_a_crash_stays_counted(local: Site) -> None:
    """Nobody knows what it would have been."""
    crash = {"username": "ada", "password": CRASH}
    assert local.statuses("POST", "/api/", 6, crash) == [500] * 5 + [429]


def test_whoever_is_forbidden_had_the_right_password(local: Site) -> None:
    """A view may refuse a user whom it found."""
    assert local.statuses("POST", "/forbidden/", 12, right()) == [403] * 12


def test_a_cancelled_attempt_stays_counted(local: Site) -> None:
    """As when a client hangs up."""
    if local.runner is None:
        pytest.skip("a thread cannot be cancelled")

    async def hang_up() -> None:
        task = asyncio.create_task(PeerClient().post("/a/api/", held()))
        await Gate.areached.acquire()
        task.cancel()
        await asyncio.wait([task])

    for _ in range(5):
        local.runner.run(hang_up())
    assert local.post("/api/", right()).status_code == 429


def test_without_the_middleware_a_failure_is_counted_as_it_happens(local: Site) -> None:
    """And nobody is refused for attempts that succeed."""
    with override_settings(MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"]):
        local.client.handler.load_middleware(is_async=local.runner is not None)
        assert local.statuses("POST", "/api/", 12, right()) == [200] * 12
        assert local.statuses("POST", "/api/", 5, wrong()) == [401] * 5
        assert local.post("/api/", right()).status_code == 401


def test_an_outage_gives_back_where_it_counted(local: Site, dead_url: str) -> None:
    """In this process's memory."""
    local.base["URL"] = dead_url
    local.configure(**SETTINGS)
    for _ in range(12):
        assert local.post("/a/api/", right()).status_code == 200
    for _ in range(5):
        assert local.post("/a/api/", wrong()).status_code == 401
    assert local.post("/a/api/", right()).status_code == 429
