"""Every way in which a server can be away, times every policy for it, under WSGI and under ASGI.

The table of docs/rate-limits.md, "When the server is away", for a limited view and for a protected
login. A client that has spent a part of its limit before goes on from there afterwards, unless the
server itself has forgotten it.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import pytest
import redis
from django.contrib.auth import aauthenticate, authenticate
from django.http import HttpRequest, HttpResponse
from django.urls import path

from rustauth_django import BackendUnavailable
from rustauth_django.connections import get_guard
from rustauth_django.limits.outages import PAUSE
from rustauth_django.limits.rates import OnError

from ..people import PASSWORD
from ..proxies import Proxy
from ..servers import BINARIES, Server
from ..site import Site

MAX = 5
BEFORE, DURING, AFTER = "192.0.2.1", "192.0.2.2", "192.0.2.3"
# More than the breaker needs to open, and more than the limit.
MANY = MAX + 4
POLICIES: list[OnError] = ["local", "deny", "allow", "raise"]

pytestmark = [pytest.mark.slow, pytest.mark.django_db]


def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


async def aview(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


def sign_in(request: HttpRequest) -> HttpResponse:
    found = authenticate(request, username=request.POST["name"], password=request.POST["password"])
    return HttpResponse(status=200 if found else 401)


async def asign_in(request: HttpRequest) -> HttpResponse:
    sent = {"username": request.POST["name"], "password": request.POST["password"]}
    return HttpResponse(status=200 if await aauthenticate(request, **sent) else 401)


urlpatterns = [
    path("view/", view),
    path("a/view/", aview),
    path("sign-in/", sign_in),
    path("a/sign-in/", asign_in),
]


# How a server is away, and back again.


@contextmanager
def killed(server: Server, proxy: Proxy) -> Iterator[None]:
    """Gone, and without what it counted when it is back."""
    server.kill()
    try:
        yield
    finally:
        server.start()


@contextmanager
def paused(server: Server, proxy: Proxy) -> Iterator[None]:
    """Lets connections in and says nothing."""
    server.stop_answering()
    try:
        yield
    finally:
        server.answer_again()
        with server.client() as raw:
            raw.ping()


@contextmanager
def read_only(server: Server, proxy: Proxy) -> Iterator[None]:
    """A replica, as after a failover."""
    with server.client() as raw:
        raw.replicaof("127.0.0.1", "1")
        try:
            yield
        finally:
            raw.replicaof("NO", "ONE")


@contextmanager
def failing_over(server: Server, proxy: Proxy) -> Iterator[None]:
    """A replica that has lost its primary, and answers MASTERDOWN."""
    with server.client() as raw:
        raw.config_set("replica-serve-stale-data", "no")
        raw.replicaof("127.0.0.1", "1")
        try:
            yield
        finally:
            raw.replicaof("NO", "ONE")
            raw.config_set("replica-serve-stale-data", "yes")


@contextmanager
def crowded(server: Server, proxy: Proxy) -> Iterator[None]:
    """Takes no more clients, and has lost those that it had."""
    with redis.Redis(port=server.port, single_connection_client=True) as raw:
        raw.config_set("maxclients", 1)
        raw.client_kill_filter(_type="normal", skipme=True)
        try:
            yield
        finally:
            raw.config_set("maxclients", 10_000)


@contextmanager
def out_of_memory(server: Server, proxy: Proxy) -> Iterator[None]:
    """As full as it may be."""
    with server.client() as raw:
        raw.config_set("maxmemory", 1)
        try:
            yield
        finally:
            raw.config_set("maxmemory", 0)


@contextmanager
def loading(server: Server, proxy: Proxy) -> Iterator[None]:
    """Reads its data from disk, and answers LOADING."""
    with server.client() as raw:
        for number in range(500):
            raw.set(f"filler-{number}", secrets.token_hex(1_000))
        raw.save()
        server.kill()
        # A pause after each key, and a look at the clients after each.
        slow = ["--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024"]
        server.start(*slow, loading=True)
        try:
            yield
        finally:
            raw.config_set("key-load-delay", 0)
            while raw.info("persistence")["loading"]:
                pass


@contextmanager
def busy(server: Server, proxy: Proxy) -> Iterator[None]:
    """Runs a script that does not end, and answers BUSY."""
    with server.client() as raw, server.client() as other, ThreadPoolExecutor(1) as pool:
        before = raw.config_get("lua-time-limit")["lua-time-limit"]
        raw.config_set("lua-time-limit", 10)
        running = pool.submit(raw.eval, "while true do end", 0)
        while not is_busy(other):
            pass
        try:
            yield
        finally:
            other.execute_command("SCRIPT", "KILL")
            assert "killed" in str(running.exception(timeout=10))
            other.config_set("lua-time-limit", before)


def is_busy(raw: redis.Redis) -> bool:
    try:
        raw.ping()
    except redis.ResponseError as error:
        return str(error).startswith("BUSY")
    return False


@contextmanager
def cut(server: Server, proxy: Proxy) -> Iterator[None]:
    """Each connection breaks off within the first reply."""
    proxy.cut_after = 1
    try:
        yield
    finally:
        proxy.cut_after = None


Trouble = Callable[[Server, Proxy], AbstractContextManager[None]]
# Every trouble of the newest server. The oldest has other words for errors within scripts.
TROUBLES: list[list[Trouble]] = [
    [killed, paused, read_only, failing_over, out_of_memory, loading, busy, crowded, cut],
    [read_only, failing_over, out_of_memory, busy],
]
TABLE = [
    pytest.param(name, trouble, id=f"{trouble.__name__}-{name}")
    for name, troubles in zip(BINARIES, TROUBLES, strict=False)
    for trouble in troubles
]


class Clock:
    """Seconds that pass when the test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Away:
    """A site whose server gets into trouble, and is well again."""

    def __init__(self, site: Site, server: Server, proxy: Proxy, trouble: Trouble) -> None:
        self.site, self.server, self.proxy, self.trouble = site, server, proxy, trouble
        self.keeps_data = trouble is not killed
        self.clock = Clock()

    def configure(self, policy: OnError) -> None:
        self.site.configure(
            ENABLED=True,
            ON_ERROR=policy,
            # Each answer is the server's or the policy's.
            LOCAL_REFUSALS=0,
            RULES=[{"path": "*/sign-in/", "disabled": True}, {"path": "*", "rate": f"{MAX}/h"}],
            LOGIN={"ACCOUNT": {"window": 3600, "max": MAX, "escalate": [3600]}, "ADDRESS": None},
        )
        # The limits of the breaker pass on this clock, so that no test sleeps.
        get_guard()._limiter._breaker._clock = self.clock

    def during(self, ask: Callable[[str], Any], who: str, count: int) -> list[Any]:
        """So many answers of the outage; the last one is that of a probe."""
        with self.trouble(self.server, self.proxy):
            answers = [ask(who) for _ in range(count - 1)]
            self.clock.now += PAUSE
            answers.append(ask(who))
        self.clock.now += PAUSE
        return answers

    def look(self, client: str) -> Any:
        """Asks for the limited view."""
        return self.site.get(self.at("view/"), peer=client)

    def guess(self, name: str, password: str = "wrong") -> Any:
        """Tries to sign in."""
        sent = {"name": name, "password": password}
        return self.site.post(self.at("sign-in/"), sent)

    def at(self, path: str) -> str:
        return f"/a/{path}" if self.site.runner else f"/{path}"


@pytest.fixture(scope="module")
def mortals() -> Iterator[dict[str, Server]]:
    """Servers that no other module needs; each trouble leaves its server well."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(Server(name))
            for name, _ in zip(BINARIES, TROUBLES, strict=False)
        }


@pytest.fixture
def away(
    mortals: dict[str, Server],
    name: str,
    trouble: Trouble,
    prefix: str,
    runner: asyncio.Runner | None,
) -> Iterator[Away]:
    """A site on a server that gets into trouble."""
    server = mortals[name]
    with Proxy(server.port) as proxy:
        url = proxy.url if trouble is cut else server.url
        if trouble is paused:
            url = f"{server.plain_url}?socket_timeout=0.3&socket_connect_timeout=0.3"
        backends = ["rustauth_django.login.LoginProtection", "tests.people.PeopleBackend"]
        site = Site(url, prefix, runner, ROOT_URLCONF=__name__, AUTHENTICATION_BACKENDS=backends)
        yield Away(site, server, proxy, trouble)
        site.close()


def statuses(ask: Callable[[str], Any], who: str, count: int) -> list[int]:
    return [ask(who).status_code for _ in range(count)]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("name", "trouble"), TABLE[:1])
def test_the_right_password_follows_the_policy(away: Away, policy: OnError) -> None:
    """It signs in wherever passwords are looked at, more often than wrong ones may come."""
    away.configure(policy)
    answers = away.during(lambda who: away.guess(who, PASSWORD), "ada", MANY)
    found = {"local": 200, "allow": 200, "deny": 503, "raise": 500}[policy]
    assert [one.status_code for one in answers] == [found] * MANY


def check_answers(answers: list[Any], policy: OnError, counted: int, refused: int) -> None:
    """What the policy promises for so many answers: ``counted`` is the view's own, ``refused`` that
    of a limit.
    """
    found = [one.status_code for one in answers]
    if policy == "local":
        assert found == [counted] * MAX + [refused] * (len(answers) - MAX)
    elif policy == "allow":
        assert found == [counted] * len(answers)
    elif policy == "deny":
        assert found == [503] * len(answers)
        assert all(int(one.headers["Retry-After"]) >= 1 for one in answers)
        assert all(one.json()["code"] == "SERVICE_UNAVAILABLE" for one in answers)
    else:
        assert found == [500] * len(answers)
        assert all(isinstance(one.exc_info[1], BackendUnavailable) for one in answers)


def check_log(caplog: pytest.LogCaptureFixture, policy: OnError) -> None:
    """One line as the outage begins, one as it ends, and no traceback but that of "raise"."""
    told = [record.getMessage() for record in caplog.records if record.name == "rustauth_django"]
    assert [line.split(",")[0] for line in told] == [
        "Rate limits cannot be counted on the server now",
        "Rate limits are counted on the server again.",
    ]
    assert policy == "raise" or not any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("name", "trouble"), TABLE)
def test_a_limited_view_follows_the_policy(
    away: Away, policy: OnError, caplog: pytest.LogCaptureFixture
) -> None:
    """Counted here, 503, uncounted, or an error for the site; then it counts there again."""
    away.configure(policy)
    assert statuses(away.look, BEFORE, MAX - 2) == [200] * (MAX - 2)
    check_answers(away.during(away.look, DURING, MANY), policy, 200, 429)
    left = 2 if away.keeps_data else MAX
    assert statuses(away.look, BEFORE, left + 1) == [200] * left + [429]
    assert statuses(away.look, AFTER, MAX + 1) == [200] * MAX + [429]
    assert any(name.startswith(AFTER) for name in away.site.buckets())
    check_log(caplog, policy)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("name", "trouble"), TABLE)
def test_a_protected_login_follows_the_policy(
    away: Away, policy: OnError, caplog: pytest.LogCaptureFixture
) -> None:
    """As many passwords are looked at as the policy says; then accounts count there again."""
    away.configure(policy)
    assert statuses(away.guess, "before", MAX - 2) == [401] * (MAX - 2)
    check_answers(away.during(away.guess, "during", MANY), policy, 401, 429)
    left = 2 if away.keeps_data else MAX
    assert statuses(away.guess, "before", left + 1) == [401] * left + [429]
    assert statuses(away.guess, "after", MAX + 1) == [401] * MAX + [429]
    assert away.guess("grace", PASSWORD).status_code == 200
    check_log(caplog, policy)
