"""A hundred thousand inputs that nobody meant: settings, what clients send, what is stored.

Each case has random numbers of its own, made from ``SEED``, from its kind and from its number. A
failure shows all three and the case, so that ``case(kind, number)`` makes it again.
"""

import io
import json
import string
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address, ip_network
from random import Random
from typing import Any

import pytest
import redis
from django.contrib.auth import aauthenticate, authenticate
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.core.signing import TimestampSigner
from django.http import HttpRequest, HttpResponse
from django.http.cookie import parse_cookie
from django.test import override_settings
from django.urls import path, re_path

from rustauth_django import (
    BackendError,
    InvalidConfig,
    RateLimitRule,
    rate_limit_store,
    secondary_storage,
    verification,
)
from rustauth_django.conf import Settings, read_settings
from rustauth_django.connections import get_stores
from rustauth_django.decorators import rate_limit
from rustauth_django.engine.operations import Unlink
from rustauth_django.engine.plans import drive
from rustauth_django.limits.clients import ClientAddresses
from rustauth_django.limits.devices import COOKIE, SALT, Device
from rustauth_django.limits.grammar import Rate, parse_rates
from rustauth_django.limits.keys import (
    MAX_TYPED,
    MissingAddress,
    MissingIP,
    Visitors,
    fold,
    parse_key,
)
from rustauth_django.limits.operations import UNDER_WAY
from rustauth_django.limits.standings import standings
from rustauth_django.sessions import SessionStore, list_sessions
from rustauth_django.sessions.cookies import sign
from rustauth_django.sessions.operations import WriteSession
from rustauth_django.sessions.records import FIELDS, DjangoPart, SessionRecord
from rustauth_django.verification.records import Verification

from ..people import PASSWORD, person
from ..servers import Server
from ..site import Site

SEED = 20261128
CASES = {
    "settings": 10_000,
    "checks": 600,
    "sites": 500,
    "rates": 28_500,
    "addresses": 20_000,
    "requests": 1_500,
    "cookies": 10_000,
    "visitors": 1_000,
    "names": 10_000,
    "attempts": 400,
    "bodies": 1_500,
    "sessions": 4_000,
    "hashes": 1_000,
    "indexes": 1_000,
    "tokens": 4_000,
    "bytes": 500,
    "buckets": 1_500,
    "commands": 4_000,
}

pytestmark = pytest.mark.slow


def case(kind: str, number: int) -> Random:
    """The random numbers of one case."""
    return Random(f"{SEED} {kind} {number}")


def hold(kind: str, make: Callable[[Random], Any], promise: Callable[[Any], None]) -> None:
    """The promise holds for every case of this kind; a failure says for which it does not."""
    for number in range(CASES[kind]):
        made = make(case(kind, number))
        try:
            promise(made)
        except BaseException as error:
            error.add_note(f"SEED {SEED}, kind {kind!r}, number {number}: {made!r}")
            raise


def test_there_are_a_hundred_thousand_cases() -> None:
    """Fewer of what takes longer."""
    assert sum(CASES.values()) == 100_000


# What cases are made of.

ALPHABETS = [
    string.ascii_letters + string.digits,
    string.printable,
    string.punctuation + " ",
    "0123456789.:/,[]abcdef ",
    "\0\x01\t\r\n\x0b\x1b\x7f\x85\xa0\xad",
    "".join(map(chr, range(256))),
    "\u0130\u0131\u017f\u212a\ufb01\ufdfa\u1e9e\u00df\u03c2\u1fb7\uff21\u2460\u1d2c",
    "\u0300\u0301\u0327\u0345\u0653\u3099\U0001d165",
    "\u20e3\u200b\u200d\u2060\u202e\ufeff\u115f\u1160\u3164\uffa0\U000e0041",
    "\ud800\udc80\udcff\udfff",
    "\uac00\u1100\u1161\u11a8\u0958\u2126\U0001f600\U0010ffff",
]
EDGES = [0, 1, -1, 2, 60, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, -(2**63), 10**30]
FLOATS = [0.0, -0.0, 0.5, 1e-9, 1.5, 1e308, -1e308, float("inf"), float("-inf"), float("nan")]
ADDRESSES = [
    "192.0.2.1",
    "10.0.0.1",
    "127.0.0.1",
    "8.8.8.8",
    "203.0.113.9:1234",
    "2001:db8::1",
    "[2001:db8::1]:443",
    "[2001:db8::1]",
    "::ffff:192.0.2.1",
    "fe80::1%eth0",
    "0.0.0.0",
    "::",
    "256.1.1.1",
    "01.2.3.4",
    "unknown",
    "_hidden",
    "",
]


def text(random: Random, longest: int = 20) -> str:
    """Text of one alphabet or of two."""
    letters = "".join(random.sample(ALPHABETS, random.choice([1, 1, 2])))
    return "".join(random.choices(letters, k=random.randrange(longest)))


def mutated(random: Random, given: str) -> str:
    """The same text with something removed, repeated, put in or replaced."""
    for _ in range(random.choice([0, 1, 1, 2, 5])):
        at, end = sorted(random.choices(range(len(given) + 1), k=2))
        piece = random.choice(["", text(random, 6), given[at:end] * 2, given[at:end].upper()])
        given = given[:at] + piece + given[end:]
    return given


def sound(value: Any) -> Any:
    """The same, and of a text what UTF-8 can hold."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def raw_bytes(random: Random) -> bytes:
    return random.randbytes(random.randrange(30))


def json_value(random: Random, depth: int = 3) -> Any:
    """Whatever JSON can hold, and what Python's reads besides."""
    if depth and random.random() < 0.3:
        inner = [json_value(random, depth - 1) for _ in range(random.randrange(4))]
        return random.choice([inner, {text(random, 6): one for one in inner}])
    plain = [None, True, False, random.choice(EDGES), random.choice(FLOATS), text(random)]
    return random.choice(plain)


def anything(random: Random, depth: int = 3) -> Any:
    """Whatever a settings file can hold."""
    if depth and random.random() < 0.3:
        inner = [anything(random, depth - 1) for _ in range(random.randrange(4))]
        named = {random.choice([text(random, 6), None, 1, (), b"x"]): one for one in inner}
        return random.choice([inner, tuple(inner), named, {text(random, 4) for _ in inner}])
    others = [raw_bytes(random), timedelta(seconds=random.choice([-1, 0, 0.5, 1e9])), object()]
    deep: list[Any] = []
    for _ in range(2_000):
        deep = [deep]
    others += [10**5_000, deep]
    functions = [len, text, lambda one: one, Random, bytes.decode]
    return random.choice([json_value(random, 0), text(random), *others, random.choice(functions)])


def allow_all(request: HttpRequest) -> bool:
    """A function that a setting may name."""
    return True


SECRET = "hunter2"
LINES = {
    "rate": [
        "5/m",
        "1/s; 9/h",
        "10/s burst 20",
        "0/m",
        "5",
        "5/y",
        "1/99999w",
        "999999999999999/w",
    ],
    "functions": [f"{__name__}.allow_all", "tests.limited.by_plan", "a.b", "tests.broken_module.x"],
    "networks": ["10.0.0.0/8", "::/0", "::ffff:10.0.0.0/104", "10.0.0.0/33", "10.0.0.1", "x", ""],
    "urls": [
        "memory://",
        "redis://127.0.0.1:1/0",
        f"redis://user:{SECRET}@127.0.0.1:1",
        f"redis://user:{SECRET}/@h:port",
        f"rediss://:{SECRET}@[::1:1",
        f"valkey://h/{SECRET}?socket_timeout=soon",
        f"http://{SECRET}@h",
        "unix:///s?db=1",
        "redis://h?max_connections=0",
    ],
}


def pick(random: Random, *named: Any) -> Any:
    """One of these lines, changed now and then, or one of these values; else anything."""
    if random.random() < 0.2:
        return anything(random)
    name = random.choice(named)
    value = random.choice(LINES[name]) if isinstance(name, str) and name in LINES else name
    return mutated(random, value) if isinstance(value, str) and random.random() < 0.3 else value


def some(random: Random, plausible: dict[str, Callable[[], Any]]) -> dict[Any, Any]:
    """A dictionary of some settings, and now and then of one that there is not."""
    chosen = random.sample(sorted(plausible), random.randrange(len(plausible) + 1))
    found: dict[Any, Any] = {name: plausible[name]() for name in chosen}
    if random.random() < 0.1:
        found[random.choice([text(random, 8), 1, None, (1, 2)])] = anything(random)
    return found


def rule(random: Random) -> Any:
    """A limit as a dictionary has it."""
    options: dict[str, Callable[[], Any]] = {
        "algorithm": lambda: pick(
            random, "gcra", "rustauth", "fixed-window", "sliding-log", "lockout", "no"
        ),
        "burst": lambda: pick(random, 1, 0, None),
        "escalate": lambda: pick(random, [60, 300], (60,), [], [0], 5),
    }
    counts = {
        "window": pick(random, 60, 0.5, timedelta(minutes=1), 1e308),
        "max": pick(random, 1, 5, 2_000, 2**63),
    }
    return counts | (some(random, options) if random.random() < 0.5 else {})


def entry(random: Random) -> Any:
    """An entry of RULES."""
    selectors: dict[str, Callable[[], Any]] = {
        "path": lambda: pick(random, "/x", "/search/*", "*", "/a*b*c", "/é", "/%41"),
        "view_name": lambda: pick(random, "items", "item", "admin:index"),
        "route": lambda: pick(random, "items/<int:pk>/", "/x"),
    }
    outcomes: dict[str, Callable[[], Any]] = {
        "rate": lambda: pick(random, "rate", ["5/m", "9/h"], [rule(random), "1/m"]),
        "disabled": lambda: pick(random, True, False),
        "rule": lambda: pick(random, "functions", allow_all),
    }
    others: dict[str, Callable[[], Any]] = {
        "methods": lambda: pick(random, ["POST"], ["post", "GET"], "POST", ["FETCH"]),
        "on_error": lambda: pick(random, "deny", "open", None),
    }
    by, outcome = random.choice(sorted(selectors)), random.choice(sorted(outcomes))
    found = {by: selectors[by]()}
    found |= rule(random) if random.random() < 0.5 else {outcome: outcomes[outcome]()}
    if random.random() < 0.2:
        found |= some(random, selectors | outcomes)
    return found | (some(random, others) if random.random() < 0.3 else {})


def rustauth(random: Random) -> Any:
    """What somebody may write as RUSTAUTH."""
    if random.random() < 0.05:
        return anything(random)
    login = {
        "ACCOUNT": lambda: pick(random, "rate", rule(random), None, [rule(random), "5/m"]),
        "ADDRESS": lambda: pick(random, "rate", rule(random), None),
        "PAIR": lambda: pick(random, "rate", rule(random), None),
        "DEVICE_COOKIE": lambda: pick(random, 60, None, 0),
    }
    limits: dict[str, Callable[[], Any]] = {
        "ENABLED": lambda: pick(random, True, False, None),
        "WINDOW": lambda: pick(random, 10, 0.1, timedelta(seconds=5), 0),
        "MAX": lambda: pick(random, 1, 100, 0),
        "BASE_PATH": lambda: pick(random, "/api/auth", "", "/", "auth", "/*"),
        "RULES": lambda: pick(
            random, [entry(random) for _ in range(random.randrange(4))], LINES["functions"]
        ),
        "IP_HEADERS": lambda: pick(random, ["X-Real-IP"], ["REMOTE_ADDR"], "X-Real-IP"),
        "TRUSTED_PROXIES": lambda: pick(random, [pick(random, "networks") for _ in range(3)]),
        "IPV6_SUBNET": lambda: pick(random, 0, 64, 128, 129),
        "TRACK_IP": lambda: pick(random, True, False),
        "MISSING_IP": lambda: pick(random, "deny", "shared-bucket", "allow", "no"),
        "ALLOW": lambda: pick(random, "functions", [pick(random, "networks")], allow_all),
        "DENY": lambda: pick(random, "functions", [pick(random, "networks")], allow_all),
        "ON_ERROR": lambda: pick(random, "local", "raise", "no"),
        "LOCAL_REFUSALS": lambda: pick(random, 0, 1, 0.5, 61),
        "LOGIN": lambda: pick(random, some(random, login)),
    }
    options: dict[str, Callable[[], Any]] = {
        "socket_timeout": lambda: pick(random, 0.5, None, 0),
        "max_connections": lambda: pick(random, 1, 10, None, 0),
        "password": lambda: pick(random, SECRET),
        "retry": lambda: pick(random, 1),
        "host": lambda: pick(random, "h", "h" * 70),
        "port": lambda: pick(random, 1, "x"),
        "protocol": lambda: pick(random, 2, 3, 4),
        "socket_timeoutt": lambda: pick(random, 1),
    }
    top: dict[str, Callable[[], Any]] = {
        "URL": lambda: pick(random, "urls"),
        "CACHE": lambda: random.choice(["default", "absent", f"redis://:{SECRET}@h", text(random)]),
        "CLUSTER": lambda: pick(random, True, False),
        "KEY_PREFIX": lambda: pick(random, "p:", ""),
        "SCAN_COUNT": lambda: pick(random, 1, 0, 2**32),
        "CLIENT_OPTIONS": lambda: pick(random, some(random, options)),
        "TELEMETRY": lambda: pick(random, True, False),
        "PLAIN_TOKENS": lambda: pick(random, ["reset"], ["a:b"]),
        "RATE_LIMIT": lambda: pick(random, some(random, limits)),
        "SESSIONS": lambda: pick(random, {}, {"UPDATE_AGE": pick(random, 0, None)}),
        "AUDIT": lambda: pick(random, None, {"TO": "log"}, {"ADDRESSES": pick(random, True)}),
    }
    named = ["RATE_LIMIT"] if random.random() < 0.7 else []
    return some(random, top) | {name: top[name]() for name in named}


# Settings.


def test_settings_of_any_shape_give_problems() -> None:
    """Reading them never raises: there are complete settings, and one line for each problem."""

    def promise(value: Any) -> None:
        with override_settings(RUSTAUTH=value):
            found, problems = read_settings()
        assert isinstance(found, Settings)
        for problem in problems:
            assert problem.id.startswith("E00")
            assert problem.path.startswith("RUSTAUTH")
            assert problem.message
            assert problem.hint

    hold("settings", rustauth, promise)


def test_checks_of_any_settings_end_with_messages() -> None:
    """``manage.py check`` names every problem and quotes no password; it never crashes."""

    def promise(value: Any) -> None:
        said = io.StringIO()
        with override_settings(RUSTAUTH=value):
            _, problems = read_settings()
            try:
                call_command("check", deploy=True, stdout=said, stderr=said)
            except SystemCheckError as error:
                said.write(str(error))
            else:
                assert not problems
        for problem in problems:
            assert f"(rustauth_django.{problem.id}) {problem.path}" in said.getvalue()
        assert SECRET not in said.getvalue()

    hold("checks", rustauth, promise)


def test_rates_are_rules_or_an_error_that_says_so() -> None:
    """Text is one rate or several, or ``InvalidConfig`` in one line; rules are ones to count by."""

    def rate(random: Random) -> str:
        if random.random() < 0.2:
            return text(random)
        number = random.choice([str(random.choice(EDGES)), str(random.randrange(20)), "٣", "1e3"])
        unit = random.choice(["s", "10s", "m", " 2 hours", "day", "w", "y", "999999999w", "", "S"])
        burst = random.choice(["", "", "", f" burst {random.choice(EDGES)}"])
        one = f"{number}/{unit}{burst}"
        return mutated(random, random.choice([one, f"{one};{one}", f"{one}; 5/m", f" {one} "]))

    def promise(value: str) -> None:
        for read, kind in ((parse_rates, Rate), (RateLimitRule.parse_all, RateLimitRule)):
            told = ""
            try:
                found: Any = read(value)
            except InvalidConfig as error:
                found, told = [], str(error)
            assert bool(found) != bool(told)
            assert len(told.splitlines()) <= 1
            assert all(isinstance(one, kind) for one in found)
            assert all(one.max > 0 and one.window > 0 for one in found)

    hold("rates", rate, promise)


# What clients send.


def as_latin_1(given: str) -> str:
    """Text as servers hand over its bytes."""
    return given.encode("utf-8", "replace").decode("latin-1")


def header(random: Random) -> str:
    """A header's value, as servers hand it over: Latin-1, whatever the bytes were."""
    if random.random() < 0.3:
        return raw_bytes(random).decode("latin-1")
    hops = [random.choice(ADDRESSES) for _ in range(random.choice([1, 1, 2, 3, 200]))]
    joined = random.choice([", ", ",", " ", ",,"]).join(hops)
    return as_latin_1(mutated(random, joined))


PROXIES = (ip_network("10.0.0.0/8"), ip_network("::1/128"))
SITES = [
    ClientAddresses(),
    ClientAddresses(("HTTP_X_REAL_IP",)),
    ClientAddresses(("HTTP_X_FORWARDED_FOR",), PROXIES),
    ClientAddresses(("HTTP_X_REAL_IP", "HTTP_X_FORWARDED_FOR"), PROXIES, ipv6_subnet=0),
    ClientAddresses(("HTTP_X_FORWARDED_FOR",), (ip_network("0.0.0.0/0"),), ipv6_subnet=128),
]
MISSING: list[MissingIP] = ["deny", "shared-bucket", "allow"]
HEADER_KEY = parse_key(("ip", "header:X-Api-Key"))
# An address in full, the kind and the name of a key, and an HMAC.
LONGEST_KEY = 39 + len("|header:X-Api-Key:") + 64


def test_any_header_gives_an_address_or_none() -> None:
    """The client's address is found, or there is none to trust; the key has a bounded length."""

    def made(random: Random) -> tuple[dict[str, str], ClientAddresses, MissingIP]:
        names = ["REMOTE_ADDR", "HTTP_X_REAL_IP", "HTTP_X_FORWARDED_FOR", "HTTP_X_API_KEY"]
        meta = {name: header(random) for name in names if random.random() < 0.8}
        if random.random() < 0.7:
            meta["REMOTE_ADDR"] = random.choice(ADDRESSES)
        return meta, random.choice(SITES), random.choice(MISSING)

    def promise(value: tuple[dict[str, str], ClientAddresses, MissingIP]) -> None:
        meta, addresses, missing_ip = value
        found = addresses.find(meta)
        assert found is None or found.max_prefixlen in (32, 128)
        assert not (isinstance(found, IPv6Address) and (found.ipv4_mapped or found.scope_id))
        request = HttpRequest()
        request.META = meta
        visitors = Visitors(addresses, True, missing_ip, "secret")
        try:
            key = drive(HEADER_KEY.read(request, visitors), lambda call: call.run())
        except MissingAddress:
            assert found is None
            assert missing_ip == "deny"
        else:
            assert key is None or (key.isascii() and len(key) <= LONGEST_KEY)

    hold("addresses", made, promise)


def limited(request: HttpRequest) -> HttpResponse:
    """A view with one limit of each kind that reads what clients send."""
    return HttpResponse()


def sign_in(request: HttpRequest) -> HttpResponse:
    """Signs in nobody."""
    name = request.META["HTTP_X_NAME"].encode("latin-1").decode("utf-8", "surrogatepass")
    found = authenticate(request, username=name, password="wrong")
    return HttpResponse(status=200 if found else 401)


async def asign_in(request: HttpRequest) -> HttpResponse:
    name = request.META["HTTP_X_NAME"].encode("latin-1").decode("utf-8", "surrogatepass")
    found = await aauthenticate(request, username=name, password="wrong")
    return HttpResponse(status=200 if found else 401)


def who(request: HttpRequest) -> HttpResponse:
    """The name of who is signed in; a visitor has none."""
    return HttpResponse(request.user.get_username())


async def awho(request: HttpRequest) -> HttpResponse:
    return HttpResponse((await request.auser()).get_username())


urlpatterns = [
    *[
        path(f"{kind}/", rate_limit("1/m", key=f"{kind}:email")(limited))
        for kind in ("post", "json")
    ],
    path("get/", rate_limit("1/m", key="get:email")(limited)),
    path("sign-in/", sign_in),
    path("a/sign-in/", asign_in),
    path("who/", who),
    path("a/who/", awho),
    re_path("^items/", limited),
]
PEOPLE = ["rustauth_django.login.LoginProtection", "tests.people.PeopleBackend"]


@pytest.fixture
def urlconf() -> str:
    return __name__


@pytest.fixture
def visited(memory_site: Site) -> Site:
    """A site in memory that signs people in and keeps their sessions."""
    memory_site.settings |= {
        "AUTHENTICATION_BACKENDS": PEOPLE,
        "SESSION_ENGINE": "rustauth_django.sessions",
    }
    memory_site.configure(ENABLED=True, IP_HEADERS=["X-Real-IP"], MISSING_IP="shared-bucket")
    return memory_site


def send(site: Site, method: str, address: str, body: bytes = b"", **more: Any) -> Any:
    """The answer to a request as it is on the wire; an exception of the site's is raised."""
    site.client.raise_request_exception = True
    answer = site.client.generic(method, address, body, **more)
    return answer if site.runner is None else site.runner.run(answer)


def test_any_headers_give_an_answer(visited: Site) -> None:
    """From 200 to 429, as JSON or as a page, and never an error of the server's."""
    names = ["X-Real-IP", "Accept", "Referer", "Host", "Cookie", "Content-Type", "User-Agent"]

    def made(random: Random) -> tuple[str, dict[str, str]]:
        method = random.choice(["GET", "POST", "OPTIONS", "HEAD"])
        sent = {name: header(random) for name in random.sample(names, 4)}
        if random.random() < 0.5:
            accepted = mutated(random, random.choice(["text/html", "application/json, */*"]))
            sent["Accept"] = as_latin_1(accepted)
        return method, sent

    def promise(value: tuple[str, dict[str, str]]) -> None:
        method, sent = value
        clean = {name: one.replace("\r", "").replace("\n", "") for name, one in sent.items()}
        assert send(visited, method, "/items/1", headers=clean).status_code in (200, 400, 429)

    visited.configure(ENABLED=True, IP_HEADERS=["X-Real-IP"], WINDOW=60, MAX=1)
    hold("requests", made, promise)


GOOD_DEVICE = Device("0" * 32, ("1" * 32, "2" * 32))


def test_any_cookie_is_a_visitors_or_nobodys() -> None:
    """A device cookie is one that this site signed, or none; a session's has nobody signed in."""

    def made(random: Random) -> str:
        signed = TimestampSigner(salt=SALT).sign(as_latin_1(text(random)))
        given = random.choice([GOOD_DEVICE.cookie(), signed, "user:1", "0" * 32, text(random, 400)])
        pair = f"{random.choice([COOKIE, 'sessionid'])}={mutated(random, given)}"
        return as_latin_1(mutated(random, "; ".join([pair] * random.choice([1, 1, 2]))))

    def promise(value: str) -> None:
        request = HttpRequest()
        request.COOKIES = parse_cookie(value)
        device = Device.of(request, 60)
        if device is not None:
            sent = request.COOKIES[COOKIE]
            assert TimestampSigner(salt=SALT).unsign(sent) == ".".join(
                [device.number, *device.marks]
            )
        session = SessionStore(request.COOKIES.get("sessionid"))
        assert session.get("_auth_user_id") is None
        assert session.session_key is None

    with override_settings(RUSTAUTH={"URL": "memory://"}):
        hold("cookies", made, promise)


@pytest.mark.django_db
def test_any_cookies_are_those_of_a_visitor(visited: Site) -> None:
    """A page shows nobody signed in, with the cookies as a browser sends them."""

    def made(random: Random) -> str:
        given = [GOOD_DEVICE.cookie(), "user:1", "0" * 32, text(random, 300)]
        return "; ".join(
            f"{name}={mutated(random, random.choice(given))}" for name in (COOKIE, "sessionid")
        )

    def promise(value: str) -> None:
        clean = as_latin_1(value).translate({10: None, 13: None})
        where = "/a/who/" if visited.runner else "/who/"
        answer = send(visited, "GET", where, headers={"cookie": clean})
        assert (answer.status_code, answer.content) == (200, b"")

    visited.configure(ENABLED=False)
    hold("visitors", made, promise)


def test_any_name_has_one_short_spelling() -> None:
    """Folding takes time and room as the length does, and changes nothing the second time."""

    def made(random: Random) -> str:
        if random.random() < 0.02:
            length = random.choice([MAX_TYPED, MAX_TYPED + 1, MAX_TYPED + 1, 50_000])
            return "".join(random.choices(random.choice(ALPHABETS), k=length))
        return text(random, 60)

    def promise(value: str) -> None:
        began = time.process_time()
        folded, digest = fold(value), visitors.typed(value)
        assert time.process_time() - began < 0.2 + 2e-5 * len(value)
        assert len(folded) <= 18 * len(value)
        assert len(digest) == 64
        assert fold(folded) == folded
        if len(value) < MAX_TYPED:
            assert visitors.typed(f"{value}\u200b") == digest

    visitors = Visitors(ClientAddresses(), True, "deny", "secret")
    hold("names", made, promise)


@pytest.mark.django_db
def test_any_name_may_be_tried(visited: Site) -> None:
    """A wrong password is a 401 or, after too many, a 429, whatever the name."""

    def made(random: Random) -> str:
        return random.choice([text(random, 60), text(random, 4), "\0", "x" * 5_000, "\ud800"])

    def promise(value: str) -> None:
        where = "/a/sign-in/" if visited.runner else "/sign-in/"
        sent = value.encode("utf-8", "surrogatepass").decode("latin-1")
        answer = send(visited, "POST", where, headers={"x-name": sent})
        assert answer.status_code in (401, 429)

    visited.configure(ENABLED=True, RULES=[{"path": "*", "disabled": True}])
    hold("attempts", made, promise)


def test_any_body_gives_an_answer(visited: Site) -> None:
    """A form, JSON or neither: the request counts by its field or by its address."""
    types = [
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        # Under WSGI Django itself fails on such a charset, before any view.
        *(["multipart/form-data; boundary=x; charset=zlib"] if visited.runner else []),
        "multipart/form-data",
        "text/plain",
        "application/json; charset=utf-16",
        "application/x-www-form-urlencoded; charset=latin-1",
        "text/plain; charset=utf-7",
        "",
    ]

    def made(random: Random) -> tuple[str, bytes, str]:
        given = json.dumps(random.choice([{"email": json_value(random)}, json_value(random)]))
        form = f"email={text(random)}&email=%ff&a=1"
        head = 'Content-Disposition: form-data; name="email"'
        part = f"--x\r\n{head}\r\n\r\n{text(random)}\r\n--x--\r\n"
        odd = random.choice(
            ["[" * 3_000, '{"email":' + "9" * 5_000 + "}", "", '{"email":"\\ud800"}']
        )
        body = mutated(random, random.choice([given, given, form, part, odd]))
        sent = random.choice([body.encode("utf-8", "replace"), raw_bytes(random)])
        kind = random.choice(types)
        return random.choice(["post", "json", "get"]), sent, kind

    def promise(value: tuple[str, bytes, str]) -> None:
        kind, body, content_type = value
        address = f"/{kind}/?email=%ff%00"
        answer = send(visited, "POST", address, body, content_type=content_type)
        assert answer.status_code in (200, 400, 413, 429)

    visited.configure(ENABLED=True, RULES=[{"path": "*", "disabled": True}])
    hold("bodies", made, promise)


def harmless(random: Random) -> dict[str, Any]:
    """Limits of which each part may be set, in an order that nobody has tried."""
    minute = timedelta(minutes=1)

    def one() -> Any:
        window, max = (
            random.choice([0.001, 0.5, 1, 60, minute, 2**31]),
            random.choice([1, 3, 1000, 2**20]),
        )
        more: list[dict[str, Any]] = [
            {},
            {"algorithm": "fixed-window"},
            {"algorithm": "sliding-window"},
        ]
        more += [{"algorithm": "gcra", "burst": 2}, {"algorithm": "rustauth"}]
        lockout = {"window": 60, "max": 3, "escalate": [1, 60]}
        return random.choice([{"window": window, "max": max} | random.choice(more), lockout])

    def rates() -> Any:
        return random.choice(
            [
                one(),
                "5/m",
                "2/s; 9/h",
                ["5/m", "3/10s"],
                "10/s burst 20",
                [{"window": minute, "max": 5}, "5/m"],
            ]
        )

    def entry() -> dict[str, Any]:
        paths = ["*", "/items/*", "/*/1", "/api/auth/sign-in", "/\u00e9", "/*\ud800", "/sign-in"]
        by: list[dict[str, Any]] = [
            {"path": random.choice(paths)},
            {"route": "^items/"},
            {"view_name": "x"},
        ]
        what: list[dict[str, Any]] = [
            one(),
            {"rate": rates()},
            {"disabled": True},
            {"rate": "1/m", "on_error": "deny"},
        ]
        methods = random.choice([{}, {"methods": ["GET"]}, {"methods": ["POST", "OPTIONS"]}])
        return random.choice(by) | random.choice(what) | methods

    plausible: dict[str, Callable[[], Any]] = {
        "WINDOW": lambda: random.choice([0.001, 10, 2**31]),
        "MAX": lambda: random.choice([1, 100, 1001]),
        "BASE_PATH": lambda: random.choice(["/api/auth", "", "/", "items", "/items/"]),
        "RULES": lambda: [entry() for _ in range(random.randrange(5))],
        "IP_HEADERS": lambda: random.choice([[], ["X-Real-IP"], ["X-Real-IP", "X-Other"]]),
        "TRUSTED_PROXIES": lambda: random.choice([[], ["127.0.0.1"], ["0.0.0.0/0", "::/0"]]),
        "IPV6_SUBNET": lambda: random.choice([0, 1, 64, 128]),
        "TRACK_IP": lambda: random.random() < 0.9,
        "MISSING_IP": lambda: random.choice(MISSING),
        "ALLOW": lambda: random.choice([[], ["198.51.100.0/24"]]),
        "DENY": lambda: random.choice([[], ["2001:db8::/32"]]),
        "LOCAL_REFUSALS": lambda: random.choice([0, 0.5, 60]),
        "LOGIN": lambda: {"ACCOUNT": rates(), "ADDRESS": rates(), "PAIR": rates()},
    }
    names = random.sample(sorted(plausible), random.randrange(len(plausible) + 1))
    return {name: plausible[name]() for name in names}


@pytest.mark.django_db
def test_settings_without_a_problem_serve(visited: Site) -> None:
    """What ``manage.py check`` lets pass answers each request, and no login with an error."""

    def promise(value: dict[str, Any]) -> None:
        visited.configure(ENABLED=True, **value)
        _, problems = read_settings()
        if not problems:
            where = "/a/sign-in/" if visited.runner else "/sign-in/"
            for _ in range(2):
                answer = send(visited, "GET", "/items/1", headers={"x-real-ip": "2001:db8::1"})
                assert answer.status_code in (200, 403, 429)
                answer = send(visited, "POST", where, headers={"x-name": "ada"})
                assert answer.status_code in (401, 403, 429)
        visited.overrides.pop().disable()

    hold("sites", harmless, promise)


# What is stored.

TIMES = [
    "2026-06-05T12:34:56.123456Z",
    "9999-12-31T23:59:59.999999999-23:59",
    "0001-01-01T00:00:00+23:59",
    "2099-01-01t00:00:00z",
    "2099-02-30T00:00:00Z",
    "2099-01-01T24:00:00Z",
    "2099-01-01T00:00:00+99:99",
    "",
]


def record(random: Random, good: str) -> str:
    """A stored record with some fields changed, or some text, or some bytes."""
    fields = json.loads(good)
    for name in random.sample(sorted(fields), random.choice([0, 1, 1, 2])):
        fields[name] = random.choice([json_value(random), text(random), random.choice(TIMES)])
        if random.random() < 0.2:
            del fields[name]
    if random.random() < 0.1:
        fields[text(random, 6)] = json_value(random)
    stored = json.dumps(fields, ensure_ascii=random.random() < 0.5)
    junk = [
        "[" * 50_000,
        '{"a":' * 50_000,
        "9" * 5_000,
        "null",
        "",
        raw_bytes(random).decode("latin-1"),
    ]
    changed = random.choice([stored, stored, stored, mutated(random, stored), random.choice(junk)])
    return str(sound(changed))


NOW = datetime(2026, 6, 5, 12, 34, 56, tzinfo=UTC)
LATER = datetime(2099, 1, 1, tzinfo=UTC)
TOKEN = "0123456789abcdef"
SESSION = SessionRecord("id", "1", LATER, TOKEN, None, "x", NOW, NOW).to_json()


@pytest.fixture
def in_memory() -> Iterator[None]:
    with override_settings(RUSTAUTH={"URL": "memory://"}):
        yield


@pytest.fixture(params=["memory", "server"])
def stored(request: pytest.FixtureRequest, one_server: Server, prefix: str) -> Iterator[None]:
    """The stores of the settings, in memory and on a server."""
    url = "memory://" if request.param == "memory" else one_server.url
    with override_settings(RUSTAUTH={"URL": url, "KEY_PREFIX": prefix}):
        yield
        secondary_storage.clear()


def test_any_session_record_is_a_session_or_nothing(stored: None) -> None:
    """It is read, shown and prolonged, or it is no session."""

    def promise(value: str) -> None:
        storage.set(f"session:{TOKEN}", value, 60)
        storage.set("session:user:1", json.dumps([TOKEN]), 60)
        storage.backend.run(write)
        session = SessionStore(sign(TOKEN))
        data = session.load()
        assert isinstance(data, dict)
        assert (session.token == TOKEN) or not data
        if session.modified:
            session.save()
        assert [one.is_current for one in list_sessions(person(1))] in ([], [False])

    storage = get_stores().secondary_storage
    key = storage.keyspace.for_django().physical(f"session:{TOKEN}")
    fields = DjangoPart(b'{"a":1}', NOW).to_fields()
    write = WriteSession(TOKEN, 60_000, "NX", None, key, None, fields=fields)
    hold("sessions", lambda random: record(random, SESSION), promise)


def test_any_hash_beside_a_session_is_its_data_or_none(stored: None) -> None:
    """Whatever its fields are."""

    def made(random: Random) -> dict[str, bytes]:
        edges = (b"", b'{"a":1}', b"1780000000000", b"9" * 30, b"-1", b"[]", b"null")
        names = random.sample(FIELDS, random.randrange(1, len(FIELDS) + 1))
        return {name: random.choice([*edges, raw_bytes(random)]) for name in names}

    def promise(fields: dict[str, bytes]) -> None:
        storage.set(f"session:{TOKEN}", SESSION, 60)
        storage.backend.run(Unlink((key,)))
        storage.backend.run(WriteSession(TOKEN, 60_000, "NX", None, key, None, fields=fields))
        session = SessionStore(sign(TOKEN))
        assert session.load() in ({}, {"a": 1})
        if session.modified:
            session.save()
        # What cannot be read is nobody's once it is saved.
        assert len(list_sessions(person(1))) <= 1

    storage = get_stores().secondary_storage
    storage.set("session:user:1", json.dumps([TOKEN]), 600)
    key = storage.keyspace.for_django().physical(f"session:{TOKEN}")
    hold("hashes", made, promise)


def test_any_index_of_sessions_is_one_or_empty(stored: None) -> None:
    """The sessions that it names are shown; what else it holds is nothing."""

    def made(random: Random) -> str:
        tokens = [random.choice([TOKEN, "user:1", json_value(random)]) for _ in range(4)]
        found = random.choice([json.dumps(tokens), record(random, SESSION), mutated(random, TOKEN)])
        return str(sound(found))

    def promise(value: str) -> None:
        storage.set(f"session:{TOKEN}", SESSION, 60)
        storage.set("session:user:1", value, 60)
        assert [one.id for one in list_sessions(person(1))] in ([], ["id"])

    storage = get_stores().secondary_storage
    hold("indexes", made, promise)


def test_any_token_record_is_a_token_or_nothing(stored: None) -> None:
    """It is shown and used once, as a token or as a code, or it is nothing."""

    def made(random: Random) -> tuple[str, str]:
        kind = random.choice(["", "/code"])
        digest = random.choice(["f" * 64, "f" * 63, text(random)])
        kept = f"{random.choice(['1', '5', '0', '999', '1000', 'x'])}:{digest}:{text(random)}"
        value = kept if kind else text(random)
        good = Verification("id", "name", "", LATER, NOW, NOW).to_json()
        changed = json.loads(good) | {"value": sound(value)}
        return kind, record(random, json.dumps(changed))

    def promise(value: tuple[str, str]) -> None:
        kind, stored = value
        verification.create("reset", ttl=60, identifier="name")
        verification.create_code("reset", "name", ttl=60)
        for key in storage.list_keys():
            storage.set(key, stored, 60)
        if kind:
            for _ in range(2):
                assert verification.consume_code("reset", "name", "123456") is None
        else:
            found = verification.peek("reset", "name")
            assert verification.consume("reset", "name") == found
            assert verification.consume("reset", "name") is None

    storage = get_stores().secondary_storage
    hold("tokens", made, promise)


def test_any_bytes_are_a_session_or_nothing(one_server: Server, prefix: str) -> None:
    """The same for what no text is, which only a server can hold."""

    def promise(value: bytes) -> None:
        for key in (f"session:{TOKEN}", "session:user:1"):
            raw.set(f"{prefix}secondary:{key}", value, ex=60)
        assert SessionStore(sign(TOKEN)).load() == {}
        assert list_sessions(person(1)) == []
        token = verification.create("reset", ttl=60)
        (stored,) = raw.keys(f"{prefix}secondary:verification:*")
        raw.set(stored, value, ex=60)
        assert verification.peek("reset", token) is None
        assert verification.consume("reset", token) is None
        raw.delete(stored)

    settings = {"URL": one_server.url, "KEY_PREFIX": prefix}
    with redis.Redis.from_url(one_server.url) as raw, override_settings(RUSTAUTH=settings):
        hold("bytes", raw_bytes, promise)
        secondary_storage.clear()


def test_any_bucket_gives_a_decision(one_server: Server, prefix: str) -> None:
    """Whatever another program left in its place; a key of another type is removed."""
    rules = [
        RateLimitRule(60, 2),
        *RateLimitRule.parse_all("2/m; 2000/h; 2/s burst 2"),
        RateLimitRule(60, 2, "lockout", escalate=(60,)),
        RateLimitRule(60, 2, "fixed-window"),
    ]

    def made(random: Random) -> tuple[RateLimitRule, bytes | dict[bytes, bytes]]:
        rule = random.choice(rules)
        slots = [rule.slot, rule.slot + UNDER_WAY, "count", "last_request", text(random, 6)]
        numbers = " ".join(str(random.choice(EDGES)) for _ in range(random.randrange(8)))
        states = [numbers, "nan", "inf", "1e400", "-1", "0x10", "9" * 400, text(random)]
        fields = {
            (random.choice(slots) or "count").encode("utf-8", "replace"): random.choice(
                [random.choice(states).encode("utf-8", "replace"), b"\x01" + raw_bytes(random)]
            )
            for _ in range(random.choice([1, 2, 3]))
        }
        return rule, raw_bytes(random) if random.random() < 0.1 else fields

    def promise(value: tuple[RateLimitRule, bytes | dict[bytes, bytes]]) -> None:
        rule, stored = value
        operation = store.attempt([("key", rule)], ["key"])
        physical = operation.buckets[0].physical
        raw.delete(physical)
        if isinstance(stored, bytes):
            raw.set(physical, stored, ex=60)
        else:
            raw.hset(physical, mapping=stored)
        list(standings(stores.backend, store, lambda key: True, lambda key: rules[0]))
        if isinstance(stored, bytes):
            with pytest.raises(BackendError, match="it was removed"):
                stores.backend.run(operation)
        (decision,) = stores.backend.run(operation)
        assert 0 <= decision.remaining <= decision.limit
        assert decision.permitted or decision.retry_after > 0

    settings = {
        "URL": one_server.url,
        "KEY_PREFIX": prefix,
        "RATE_LIMIT": {"LOCAL_REFUSALS": 0},
    }
    with redis.Redis.from_url(one_server.url) as raw, override_settings(RUSTAUTH=settings):
        stores, store = get_stores(), rate_limit_store
        hold("buckets", made, promise)
        store.clear()


# Command lines.

COMMANDS = {
    "check": [],
    "clear": ["--rate-limits", "--dry-run", "--no-input"],
    "explain": ["--method", "--ip", "--user", "--header"],
    "limits": ["--match", "--refused", "--top", "--format"],
    "list_keys": ["--match", "--ttl", "--format", "--limit"],
    "sessions": ["list", "revoke", "--user", "--all", "--format"],
    "unblock": ["--ip", "--user"],
}
WORDS = [
    *("json", "text", "192.0.2.1", "::1", "X-Real-IP: 1", "POST", "/items/1?q=%ff", "//", "/%00"),
    *("1", "0", "-1", "9" * 30, "9" * 5_000, "*", "[", "[[]", "é", "", "--", "-v3", "--help"),
    *("--no-color", "--skip-checks", "192.0.2.1|/items", "account:x|login", f"session:{TOKEN}"),
]


@pytest.mark.django_db
def test_any_command_line_ends_with_an_answer_or_one_line(
    in_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or with argparse's own message; a traceback is neither."""
    User.objects.create_user("ada", password=PASSWORD)

    def made(random: Random) -> tuple[list[str], str, str]:
        name = random.choice(sorted(COMMANDS))
        words = [f"rustauth_{name}"]
        for _ in range(random.randrange(5)):
            known = random.choice(COMMANDS[name] or WORDS)
            words.append(random.choice([known, known, random.choice(WORDS), text(random, 8)]))
        words = [word.replace("\0", "") for word in words]
        return words, str(sound(text(random))), record(random, SESSION)

    def promise(value: tuple[list[str], str, str]) -> None:
        words, key, session = value
        told, code = "", None
        streams = [io.TextIOWrapper(io.BytesIO(), "ascii") for _ in range(2)]
        monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
        for name in (key, "192.0.2.1|/items", "account:x|login"):
            for rule in (RateLimitRule(60, 5), RateLimitRule(60, 5).as_written()):
                rate_limit_store.consume(name, rule)
        for name in (TOKEN, "user:1", key):
            secondary_storage.set(f"session:{name}", session, 60)
        try:
            call_command(*words, stdout=streams[0], stderr=streams[1])
        except CommandError as error:
            told = str(error)
        except SystemExit as end:
            code = end.code
        assert told.startswith("Error: ") or len(told.splitlines()) <= 1
        assert not code, "--help and --version end well"

    hold("commands", made, promise)
