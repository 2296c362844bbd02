"""The commands of limits: who is refused and why, freed, and explained without a trace."""

import io
import json
import os
import signal
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from django.conf import settings
from django.conf.urls.i18n import i18n_patterns
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View

from rustauth_django import RateLimitRule, RustAuthStores
from rustauth_django.conf import get_settings
from rustauth_django.connections import get_stores
from rustauth_django.decorators import rate_limit
from rustauth_django.limits.keys import account_digest, account_key
from rustauth_django.limits.standings import rule_named

from .servers import Server
from .site import Site
from .test_commands import FILL as FILL_VALUES
from .test_commands import environment, manage_in_process, start
from .urls import ok

FIVE = RateLimitRule.parse("5/m")
LOCKOUT = RateLimitRule(900, 2, "lockout", escalate=(60, 300))
RUSTAUTH = RateLimitRule(60, 3)
FEW = {"window": 60, "max": 5}
MANY = {"window": 60, "max": 1001}
NAMED = {"algorithm": "rustauth"}
# Makes as many buckets as it is told, faster than a client could.
FILL = """
for i = 1, ARGV[2] do
  local key = ARGV[1] .. 'limits:' .. string.rep('x', 20000) .. i
  redis.call('HSET', key, 'fixed-window:5:60000', '1700000000000 ' .. i)
  redis.call('PEXPIRE', key, 600000)
end
"""


@rate_limit("2/m")
def limited(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@rate_limit("2/m", key=("user", "header:X-Api-Key"), methods="POST", cost=2, shadow=True)
def quiet(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@method_decorator(rate_limit("3/m"), name="dispatch")
class Limited(View):
    @method_decorator(rate_limit("2/m", key="user_or_ip", block=False))
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


class Viewset:
    """As Django REST framework has them."""

    @rate_limit("2/m")
    def list(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


def viewset(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


viewset.cls = Viewset  # type: ignore[attr-defined]
viewset.actions = {"get": "list"}  # type: ignore[attr-defined]

urlpatterns = [
    path("limited", limited),
    path("quiet", quiet),
    path("class", Limited.as_view()),
    path("viewset", viewset),
    path("as-view", rate_limit("2/m")(Limited.as_view())),
    path("never", rate_limit(lambda request: None)(limited)),
    path("", include("tests.urls")),
    *i18n_patterns(path("here", ok)),
]


@pytest.fixture
def urlconf() -> str:
    return __name__


@pytest.fixture
def site(one_server: Server, prefix: str, urlconf: str) -> Iterator[Site]:
    """A site on some server; the commands talk to the same."""
    middleware = ["django.middleware.locale.LocaleMiddleware", *settings.MIDDLEWARE]
    site = Site(one_server.url, prefix, None, ROOT_URLCONF=urlconf, MIDDLEWARE=middleware)
    site.configure(ENABLED=True)
    yield site
    site.close()


@pytest.fixture
def raw(one_server: Server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(one_server.url) as client:
        yield client


def run(*args: str, **options: Any) -> list[str]:
    """The lines that a command writes."""
    out = io.StringIO()
    call_command(*args, stdout=out, **options)
    return out.getvalue().splitlines()


def listed(*args: str) -> dict[str, list[str]]:
    """The cells of each key's line."""
    cells = [line.split("\t") for line in run("rustauth_limits", *args)]
    return {key: rest for key, *rest in cells}


def spend(key: str, rule: RateLimitRule, times: int = 1) -> None:
    for _ in range(times):
        get_stores().rate_limit_store.consume(key, rule)


def dump(raw: redis.Redis, prefix: str) -> dict[bytes, Any]:
    """Everything under a prefix, byte for byte."""
    return {key: raw.dump(key) for key in raw.scan_iter(f"{prefix}*")}


def test_limits_lists_what_is_there(server: Server, prefix: str) -> None:
    """A line for each count: key, used and limit, seconds left, rule."""
    with override_settings(RUSTAUTH={"URL": server.url, "KEY_PREFIX": prefix}):
        spend("192.0.2.1|view", FIVE, 2)
        spend("192.0.2.1|view", RateLimitRule.parse("100/h"))
        spend("account:x|login", LOCKOUT, 2)
        spend("192.0.2.1|/items", RUSTAUTH, 3)
        spend("anything", RUSTAUTH)
        lines = sorted(run("rustauth_limits"))
        assert [line.split("\t")[:2] for line in lines] == [
            ["192.0.2.1|/items", "3/100"],
            ["192.0.2.1|view", "1/100"],
            ["192.0.2.1|view", "2/5"],
            ["account:x|login", "2/2"],
            ["anything", "1/-"],
        ]
        rows = [line.split("\t")[2:] for line in lines]
        assert [rule for _, rule in rows] == [
            "100 in 10 s (rustauth)",
            "100 in 3600 s (sliding-log)",
            "5 in 60 s (sliding-log)",
            "2 in 900 s (lockout)",
            "-",
        ]
        highest = [10, 7200, 120, 60, 60]
        for (seconds, _), most in zip(rows, highest, strict=True):
            assert 0 < int(seconds) <= most


def test_limits_selects(site: Site) -> None:
    """--match, --refused and --top, in any combination."""
    spend("192.0.2.1|a", FIVE, 5)
    spend("192.0.2.1|b", FIVE, 4)
    spend("192.0.2.2|a", FIVE, 5)
    spend("192.0.2.2|c", RateLimitRule.parse("100/m"), 50)
    spend("unknown", RUSTAUTH, 3)
    assert set(listed("--match", "192.0.2.1|*")) == {"192.0.2.1|a", "192.0.2.1|b"}
    assert set(listed("--refused")) == {"192.0.2.1|a", "192.0.2.2|a"}
    assert set(listed("--refused", "--match", "*.2|*")) == {"192.0.2.2|a"}
    assert list(listed("--top", "4"))[2:] == ["192.0.2.1|b", "192.0.2.2|c"]
    assert list(listed("--top", "9"))[4:] == ["unknown"]
    assert run("rustauth_limits", top="1", match="*b") == run("rustauth_limits", match="*b")
    with pytest.raises(CommandError, match="'0' is not a number above zero"):
        run("rustauth_limits", "--top", "0")


def test_limits_speaks_json(site: Site) -> None:
    """One array, even of nothing; null is what cannot be known."""
    assert json.loads("".join(run("rustauth_limits", "--format", "json"))) == []
    spend("a|view", RateLimitRule(60, 1, "fixed-window"))
    spend("b", RUSTAUTH, 2)
    found = json.loads("".join(run("rustauth_limits", "--format", "json")))
    for item in found:
        assert 58 <= item.pop("seconds_left") <= 60
    assert sorted(found, key=lambda item: item["key"]) == [
        {
            "key": "a|view",
            "used": 1,
            "limit": 1,
            "refused": True,
            "rule": "1 in 60 s (fixed-window)",
        },
        {"key": "b", "used": 2, "limit": None, "refused": None, "rule": None},
    ]


def test_limits_knows_rustauths_limits_from_the_settings(site: Site) -> None:
    """Those of the middleware's buckets and of failed logins; no others."""
    rules = [
        {"path": "/items/*", "window": 60, "max": 11},
        {"path": "/posts", "methods": ["POST"], "window": 60, "max": 12},
        {"path": "/off", "disabled": True},
        {"path": "/modern", "rate": "5/m"},
        {"path": "/many", "rule": lambda request, rule: rule},
        {"view_name": "x", "window": 60, "max": 13},
    ]
    login = {
        name: {"window": 900, "max": count, "algorithm": "rustauth"}
        for name, count in (("ACCOUNT", 14), ("ADDRESS", 15))
    }
    site.configure(ENABLED=True, RULES=rules, LOGIN=login, MAX=16)
    expected = {
        "/items/1": "11",
        "/items/1|default": "16",
        "/posts": "16",
        "/posts|path:/posts POST": "12",
        "/off": "-",
        "/modern": "-",
        "/many": "16",
        "/any|view_name:x": "13",
        "/any|view_name:other": "-",
        "/sign-in/email": "3",
        "/sign-in/email|default": "16",
        "/accounts/login|sign-in": "3",
        "/accounts/password_reset|password-reset": "3",
        "login": "15",
        "a.view": "-",
    }
    subjects = ["192.0.2.1", "missing-ip", "2001:0db8:0000:0000:0000:0000:0000:0000"]
    for bucket in expected:
        for subject in subjects:
            spend(f"{subject}|{bucket}", RUSTAUTH)
    spend("account:x|login", RUSTAUTH)
    spend("user:1|/posts", RUSTAUTH)
    found = {key: used for key, (used, *_) in listed().items()}
    assert found == {
        **{f"{one}|{key}": f"1/{limit}" for key, limit in expected.items() for one in subjects},
        "account:x|login": "1/14",
        "user:1|/posts": "1/-",
    }


def test_limits_survives_whatever_is_there(site: Site, prefix: str, raw: redis.Redis) -> None:
    """Odd names are escaped, what is no bucket is told as unknown, and nothing is changed."""
    odd = {b"a\x1b[2J\nb": r"a\x1b[2J\nb", b"\xff|x": r"\udcff|x", b"": "", b"a|b||c": "a|b||c"}
    for name in odd:
        raw.hset(f"{prefix}limits:".encode() + name, FIVE.name, "nonsense")
    raw.set(f"{prefix}limits:string", "value")
    raw.rpush(f"{prefix}rate-limit:list", "value")
    raw.hset(f"{prefix}rate-limit:huge", mapping={"count": "9" * 5000, "last_request": "x"})
    raw.hset(f"{prefix}limits:fields", mapping={"a": 1, "gcra:1:2:3:4": 1, "b": 2})
    before = dump(raw, prefix)
    found = listed()
    assert dump(raw, prefix) == before
    for name in odd.values():
        assert found.pop(name) == ["0/5", "0", "5 in 60 s (sliding-log)"]
    assert found == {key: ["-/-", "-", "-"] for key in ("string", "list", "huge", "fields")}
    keys = {item["key"] for item in json.loads("".join(run("rustauth_limits", format="json")))}
    assert "\udcff|x" in keys


def test_attempts_that_are_under_way_are_no_rule(site: Site) -> None:
    """Their rule stands in the list, once."""
    site.configure(ENABLED=True)
    store = get_stores().rate_limit_store
    get_stores().backend.run(store.attempt([("account:x|login", LOCKOUT)], ["account:x|login"]))
    lines = run("rustauth_limits")
    assert [line.split("\t")[:2] for line in lines] == [["account:x|login", "1/2"]]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "count",
        "x:1:2",
        "gcra:1:2:3:4",
        "gcra:1:2:3:4:5:6",
        "lockout:1:2",
        f"gcra:1:{10**400}",
        f"gcra:1:{'9' * 5000}",
    ],
)
def test_fields_of_others_are_no_rules(name: str) -> None:
    """Whatever their names are."""
    assert rule_named(name) is None


def test_limits_needs_no_more_memory_for_more_keys(
    site: Site, prefix: str, raw: redis.Redis
) -> None:
    """Of a thousand very long keys, neither those listed nor those passed over are all held."""
    site.base["SCAN_COUNT"] = 2
    site.configure(ENABLED=True)
    raw.eval(FILL, 0, prefix, 1000)
    run("rustauth_limits", "--match", "*99")
    tracemalloc.start()
    try:
        with open(os.devnull, "w") as nowhere:
            for options in ({"match": "*[01]7", "format": "json"}, {"match": "*[0-4]7", "top": 3}):
                call_command("rustauth_limits", stdout=nowhere, **options)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.slow
def test_ctrl_c_ends_a_listing_of_nothing(one_server: Server, raw: redis.Redis) -> None:
    """At once and quietly, even while all that is found are keys of others."""
    raw.eval(FILL_VALUES, 0, 20_000)
    slowly = {**environment(one_server.url), "RUSTAUTH_TEST_SCAN_COUNT": "1"}
    calls = raw.info("commandstats").get("cmdstat_scan", {}).get("calls", 0)
    process = start(one_server.url, "rustauth_limits", env=slowly)
    while raw.info("commandstats").get("cmdstat_scan", {}).get("calls", 0) < calls + 100:
        pass
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 130
    raw.flushdb()


@pytest.mark.slow
def test_the_commands_in_processes_of_their_own(one_server: Server, raw: redis.Redis) -> None:
    """As an operator runs them: no traceback for | head, nor for a database that is not there."""
    with RustAuthStores.from_url(one_server.url) as stores:
        stores.rate_limit_store.consume("192.0.2.1|view", RateLimitRule.parse("1/d"))
        for i in range(500):
            stores.rate_limit_store.consume(f"192.0.2.2|{i}{'x' * 500}", FIVE)
    result = manage_in_process(one_server.url, "rustauth_limits", "--match", "*.1|*", "--refused")
    assert result.stdout.startswith("192.0.2.1|view\t1/1\t")
    assert (result.stderr, result.returncode) == ("", 0)
    process = start(one_server.url, "rustauth_limits")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert (process.stderr.read(), process.wait(timeout=30)) == ("", 0)
    process.stderr.close()
    result = manage_in_process(one_server.url, "rustauth_unblock", "--user", "1")
    assert result.stderr == "CommandError: Users cannot be read: no such table: auth_user\n"
    assert result.returncode == 1
    raw.flushdb()


@pytest.mark.parametrize(
    "args",
    [
        ["rustauth_limits"],
        ["rustauth_limits", "--top", "1", "--format", "json"],
        ["rustauth_unblock", "key"],
        ["rustauth_unblock", "--ip", "192.0.2.1"],
        ["rustauth_explain", "/"],
    ],
)
def test_a_server_that_is_away_is_one_clear_line(dead_url: str, args: list[str]) -> None:
    """With its address, and without its password."""
    url = dead_url.replace("//", "//user:secret@")
    limits = {"ENABLED": True}
    with (
        override_settings(RUSTAUTH={"URL": url, "RATE_LIMIT": limits}),
        pytest.raises(CommandError) as caught,
    ):
        run(*args)
    assert str(caught.value).startswith(f"{dead_url}: ")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_server_that_refuses_to_read_is_one_clear_line(site: Site, raw: redis.Redis) -> None:
    """An error that is not about the bucket is not taken for one."""
    spend("key", FIVE)
    raw.execute_command("ACL", "SETUSER", "default", "-hgetall")
    try:
        with pytest.raises(CommandError, match="rate limit read failed: .*hgetall"):
            run("rustauth_limits")
    finally:
        raw.execute_command("ACL", "SETUSER", "default", "+hgetall")


def test_unblock_frees_keys(site: Site, prefix: str, raw: redis.Redis) -> None:
    """Exactly those, in both namespaces, whatever their names; and says which there were."""
    for key in ("a|b", "line\nbreak", "\udcff", "a|b|c"):
        spend(key, FIVE)
    spend("a|b", RUSTAUTH)
    raw.set(f"{prefix}limits:string", "value")
    assert run("rustauth_unblock", "a|b", "line\nbreak", "none", "\udcff", "string", "a|b") == [
        "a|b",
        r"line\nbreak",
        r"\udcff",
        "string",
        "Freed 4 buckets of the given keys.",
    ]
    assert set(listed()) == {"a|b|c"}
    told = "Nothing to free: there is no bucket of the given keys."
    assert run("rustauth_unblock", "a|b") == [told]


def test_unblock_frees_an_address(site: Site) -> None:
    """Wherever it is part of the subject; not those that only look like it."""
    mine = {"192.0.2.1|/x", "192.0.2.1|/x|default", "user:7|192.0.2.1|view", "192.0.2.1|json:e:1|v"}
    others = {"192.0.2.10|/x", "192.0.2.2|/192.0.2.1", "x192.0.2.1|/x"}
    for key in mine | others:
        spend(key, FIVE)
    spend("192.0.2.1|/x", RUSTAUTH)
    *freed, summary = run("rustauth_unblock", "--ip", "::ffff:192.0.2.1")
    assert set(freed) == mine
    assert len(freed) == len(mine)
    assert summary == "Freed 4 buckets of 192.0.2.1."
    assert set(listed()) == others
    told = "Nothing to free: there is no bucket of 192.0.2.1."
    assert run("rustauth_unblock", ip="192.0.2.1") == [told]


@pytest.mark.parametrize(("subnet", "freed"), [(64, 2), (128, 1), (0, 0)])
def test_unblock_frees_a_network(site: Site, subnet: int, freed: int) -> None:
    """An IPv6 address is the network that the settings make of it."""
    site.configure(ENABLED=True, IPV6_SUBNET=64)
    site.get("/items/", peer="2001:db8::1")
    site.get("/", peer="2001:db8::2:0:0:2")
    site.configure(ENABLED=True, IPV6_SUBNET=128)
    site.get("/", peer="2001:db8::1")
    site.configure(ENABLED=True, IPV6_SUBNET=subnet)
    assert len(run("rustauth_unblock", "--ip", "2001:db8::1")) - 1 == freed


@pytest.mark.parametrize("ip", ["", "192.0.2", "192.0.2.1:80", "fe80::1%eth0", "host", "1\n"])
@pytest.mark.parametrize("command", [["rustauth_unblock"], ["rustauth_explain", "/"]])
def test_what_is_no_address_is_refused(site: Site, command: list[str], ip: str) -> None:
    """In one line, which quotes it."""
    with pytest.raises(CommandError) as caught:
        run(*command, "--ip", ip)
    assert str(caught.value) == f"{ip!r} is not an IP address."


@pytest.mark.django_db
def test_unblock_frees_a_user(site: Site) -> None:
    """What counts by the user, and the failed logins of the account; others stay."""
    user = User.objects.create_user("Ann")
    visitors = get_settings().rate_limit.visitors
    mine = {
        f"user:{user.pk}|view",
        f"192.0.2.1|user:{user.pk}|v",
        account_key(visitors.typed("ann")),
        account_key(account_digest(user, visitors)),
    }
    others = {f"user:{user.pk}0|view", account_key(visitors.typed("bob"))}
    for key in mine | others:
        spend(key, FIVE)
    *freed, summary = run("rustauth_unblock", "--user", f"{user.pk}")
    assert set(freed) == mine
    assert summary == f"Freed 4 buckets of user {user.pk}."
    assert set(listed()) == others


@pytest.mark.django_db
@pytest.mark.parametrize("pk", ["4711", "no-number", "9" * 30])
def test_unblock_frees_a_user_that_is_no_more(site: Site, pk: str) -> None:
    """By the primary key, if it is said to be one."""
    spend(f"user:{pk}|view", FIVE)
    with pytest.raises(CommandError, match="There is no user whose primary key, user name or"):
        run("rustauth_unblock", user=pk)
    freed = [f"user:{pk}|view", f"Freed 1 bucket of user {pk}."]
    assert run("rustauth_unblock", user=f"pk={pk}") == freed


@pytest.mark.parametrize("args", [[], ["key", "--ip", "192.0.2.1"], ["--ip", "::1", "--user", "1"]])
def test_unblock_wants_to_know_whom(site: Site, args: list[str]) -> None:
    """One way of saying it, no more and no less."""
    with pytest.raises(CommandError, match="required|not allowed with"):
        run("rustauth_unblock", *args)


def explained(*args: str) -> list[dict[str, str]]:
    """Each limit that an explanation tells of, as a dictionary."""
    blocks = "\n".join(run("rustauth_explain", *args)).split("\n\n")[1:]
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]


RULES = [
    {"view_name": "items", "methods": ["POST"], "rate": "7/m"},
    {"path": "/ok", "disabled": True},
    {"path": "/get-session", "rule": "tests.test_limit_commands.by_header"},
]


def by_header(request: HttpRequest, rule: RateLimitRule) -> Any:
    plan = request.headers.get("x-plan")
    if plan == "broken":
        raise OSError("no\nsuch plan")
    return {"none": None, "wrong": 5, "same": rule}.get(str(plan), "8/m; 9/h")


@pytest.mark.parametrize(
    ("method", "url", "why", "headers"),
    [
        ("GET", "/items/", "WINDOW and MAX", {}),
        ("HEAD", "items/?page=1", "WINDOW and MAX", {}),
        ("GET", "/items/5/", "WINDOW and MAX", {}),
        ("GET", "/gr%C3%BC%C3%9Fe/", "WINDOW and MAX", {}),
        ("GET", "/grüße/", "WINDOW and MAX", {}),
        ("GET", "/de/here", "WINDOW and MAX", {}),
        ("POST", "/items/", "an entry of RULES", {}),
        ("POST", "/api/auth/sign-in/email", "a strict path of RustAuth's", {}),
        ("POST", "/accounts/signup/", "a sign-in or password view, by its name", {}),
        ("GET", "/api/auth/get-session", "a function among RULES", {}),
        ("GET", "/api/auth/get-session", "WINDOW and MAX", {"x-plan": "same"}),
        ("GET", "/limited", "rate_limit on the view, by ip", {}),
        ("GET", "/class", "rate_limit on the view, by user_or_ip, without block", {}),
        ("HEAD", "/class", "rate_limit on the view, by user_or_ip, without block", {}),
        ("GET", "/class", "rate_limit on the view, by ip", {}),
        ("GET", "/as-view", "rate_limit on the view, by ip", {}),
    ],
)
def test_the_key_explained_is_the_key_that_counts(
    site: Site, method: str, url: str, why: str, headers: dict[str, str]
) -> None:
    """What a real request spends is what the explanation then shows; which itself spends none."""
    site.configure(ENABLED=True, RULES=RULES)
    args = [url, "--method", method.lower(), "--ip", "2001:db8::1"]
    args += [f"--header={name}:{value}" for name, value in headers.items()]
    before = next(limit for limit in explained(*args) if limit["why"] == why)
    assert site.buckets() == []
    number = before["state"].partition(" of ")[0]
    assert before["state"] == f"{number} of {number} left"
    names = {name.replace("-", "_"): value for name, value in headers.items()}
    site.request(method, f"/{url.removeprefix('/')}", peer="2001:db8::1", **names)
    counted = site.buckets()
    after = next(limit for limit in explained(*args) if limit["why"] == why)
    assert after["key"] in counted
    assert after["key"] == before["key"]
    assert after["state"].startswith(f"{int(number) - 1} of {number} left, all in ")
    assert {limit["key"] for limit in explained(*args)} == set(counted)


def test_explain_tells_of_every_limit(site: Site, prefix: str, raw: redis.Redis) -> None:
    """Those of the middleware and of the view and its method, each with its rules."""
    site.get("/class", peer="192.0.2.1")
    site.get("/class", peer="192.0.2.1")
    before = dump(raw, prefix)
    lines = run("rustauth_explain", "/class", "--ip", "192.0.2.1")
    assert [line.partition(" s")[0] if "left" in line else line for line in lines] == [
        "GET /class reaches tests.test_limit_commands.Limited",
        "",
        "limit: default",
        "why: WINDOW and MAX",
        "rule: 100 in 10 s (sliding-log)",
        "key: 192.0.2.1|/class",
        "state: 98 of 100 left, all in 10",
        "",
        "limit: tests.test_limit_commands.Limited",
        "why: rate_limit on the view, by ip",
        "rule: 3 in 60 s (sliding-log)",
        "key: 192.0.2.1|tests.test_limit_commands.Limited",
        lines[12].partition(" s")[0],
        "",
        "limit: tests.test_limit_commands.Limited.get",
        "why: rate_limit on the view, by user_or_ip, without block",
        "rule: 2 in 60 s (sliding-log)",
        "key: 192.0.2.1|tests.test_limit_commands.Limited.get",
        lines[18],
    ]
    assert lines[12].startswith("state: 1 of 3 left, all in ")
    assert lines[18].startswith("state: refused for ")
    after = dump(raw, prefix)
    assert after == before


def twenty_times(request: HttpRequest, rule: RateLimitRule) -> RateLimitRule:
    return replace(rule, max=rule.max * 20)


@pytest.mark.parametrize(
    ("method", "url", "rules", "rule"),
    [
        ("POST", "/api/auth/sign-in/email", [], "3 in 10 s (rustauth)"),
        ("GET", "/api/auth/get-session", [], "100 in 10 s (rustauth)"),
        ("GET", "/api/auth/ok", [{"path": "/ok*", **FEW}], "5 in 60 s (rustauth)"),
        ("GET", "/api/auth/ok", [{"path": "/ok*", "rate": "5/m"}], "5 in 60 s (sliding-log)"),
        ("GET", "/api/auth/ok", [twenty_times], "2000 in 10 s (rustauth)"),
        ("POST", "/accounts/login/", [], "3 in 10 s (sliding-log)"),
        ("GET", "/items/", [], "100 in 10 s (sliding-log)"),
        ("GET", "/items/", [{"path": "/items*", **FEW}], "5 in 60 s (sliding-log)"),
        ("GET", "/items/", [{"view_name": "items", **MANY}], "1001 in 60 s (fixed-window)"),
        ("GET", "/items/", [{"path": "/items*", **FEW, **NAMED}], "5 in 60 s (rustauth)"),
        ("GET", "/items/", [twenty_times], "2000 in 10 s (fixed-window)"),
    ],
)
def test_rustauths_window_holds_where_its_wire_does(
    site: Site, method: str, url: str, rules: list[Any], rule: str
) -> None:
    """Below the base path, and where a rule names it; all else is what it says."""
    site.configure(ENABLED=True, RULES=rules)
    (limit,) = explained(url, "--method", method)
    assert limit["rule"] == rule


def test_explain_says_what_does_not_count(site: Site) -> None:
    """By its method, for want of a rate, or of anything to count by."""
    (_, limit) = explained("/quiet")
    assert limit["why"].endswith("by user, header:X-Api-Key, a shadow, cost 2")
    assert limit["state"] == "not limited: only POST counts"
    (_, limit) = explained("/quiet", "--method", "POST")
    assert limit["state"] == "2 of 2 left"
    (_, _, limit) = explained("/never")
    assert limit["state"] == "not limited: there is no rate, or nothing to count by"
    (_, limit) = explained("/viewset")
    assert limit["key"] == "127.0.0.1|tests.test_limit_commands.Viewset.list"


@pytest.mark.django_db
def test_explain_knows_users(site: Site) -> None:
    """And says so of those that there are not."""
    user = User.objects.create_user("ann")
    args = ["/quiet", "--method=post", f"--user={user.pk}", "--header=X-Api-Key: a:b"]
    (_, limit) = explained(*args)
    digest = get_settings().rate_limit.visitors.digest("a:b")
    key = f"user:{user.pk}|header:X-Api-Key:{digest}|tests.test_limit_commands.quiet POST"
    assert limit["key"] == key
    spend(key, FIVE)
    assert run("rustauth_unblock", user=f"{user.pk}")[0] == key
    for pk in ("4711", "nobody"):
        with pytest.raises(CommandError, match=f"There is no user .* is '{pk}'"):
            run("rustauth_explain", "/", user=pk)


@pytest.mark.parametrize(
    ("proxies", "args", "address"),
    [
        ([], [], None),
        ([], ["--ip=192.0.2.1"], "192.0.2.1"),
        (["10.0.0.0/8"], ["--ip=192.0.2.1"], "192.0.2.1"),
        (["10.0.0.0/8"], ["--header=X-Forwarded-For: 192.0.2.9, 192.0.2.2, 10.1.1.1"], "192.0.2.2"),
        ([], ["--header=X-Forwarded-For: 192.0.2.9, 192.0.2.2"], None),
    ],
)
def test_explain_comes_from_where_it_is_believed(
    site: Site, proxies: list[str], args: list[str], address: str | None
) -> None:
    """Behind proxies the address is in the header that they write."""
    options = {"ENABLED": True, "IP_HEADERS": ["X-Forwarded-For"], "TRUSTED_PROXIES": proxies}
    site.configure(**options)
    if address is not None:
        assert explained("/items/", *args)[0]["key"] == f"{address}|/items"
        return
    for limit in explained("/limited", *args):
        refused = 'refused: there is no address to trust, and MISSING_IP is "deny"'
        assert limit["state"] == refused
    site.configure(**options, MISSING_IP="shared-bucket")
    assert explained("/items/", *args)[0]["key"] == "missing-ip|/items"
    site.configure(**options, MISSING_IP="allow")
    told = "not limited: there is no address to count by"
    assert explained("/items/", *args)[0]["state"] == told


def test_explain_says_why_there_is_no_limit(site: Site) -> None:
    """A 404, a view that is exempt, a rule that says none, a list, or none of it in use."""
    site.configure(ENABLED=True, RULES=RULES)
    reaches = "GET /api/auth/ok reaches tests.urls.ok"
    told = "RateLimitMiddleware does not limit it, by RULES."
    assert run("rustauth_explain", "/nowhere\x1b") == [
        r"/nowhere\x1b is a 404, and these are not limited."
    ]
    assert run("rustauth_explain", "/api/auth/ok") == [reaches, told]
    args = ["/api/auth/get-session", "--header=X-Plan:none"]
    assert run("rustauth_explain", *args)[1:] == [told]
    told = "RateLimitMiddleware passes over it: the view is marked with rate_limit_exempt."
    for url in ("/exempt/", "/exempt/async/", "/exempt/class/"):
        assert run("rustauth_explain", url)[1:] == [told]
    with override_settings(MIDDLEWARE=["tests.test_limit_commands.limited"]):
        told = "/de/here is a 404, and these are not limited."
        assert run("rustauth_explain", "/de/here") == [told]
        told = "RateLimitMiddleware is not in MIDDLEWARE."
        assert run("rustauth_explain", "/limited")[1:3] == [told, ""]
    args = ["rustauth_explain", "/items/", "--ip", "192.0.2.1"]
    site.configure(ENABLED=True, ALLOW=["192.0.2.0/24"])
    assert run(*args)[1:] == ["It is not limited, by ALLOW."]
    site.configure(ENABLED=True, ALLOW=["192.0.2.0/24"], DENY=["192.0.2.1"])
    assert run(*args)[1:] == ["It is refused with 403, by DENY."]
    site.configure(ENABLED=False)
    (line,) = run(*args)
    assert line.startswith('Nothing is limited: RUSTAUTH["RATE_LIMIT"]["ENABLED"] is off')


def test_explain_tells_what_a_function_raises(site: Site) -> None:
    """In one line, as such a request would meet it."""
    site.configure(ENABLED=True, RULES=RULES)
    args = ["rustauth_explain", "/api/auth/get-session"]
    with pytest.raises(CommandError) as caught:
        run(*args, "--header=X-Plan:broken")
    assert str(caught.value) == "Such a request fails: OSError: no such plan"
    with pytest.raises(CommandError, match=r"^Such .*: TypeError: the rule function "):
        run(*args, "--header=X-Plan:wrong")
    with pytest.raises(CommandError, match="'plan' is not NAME:VALUE"):
        run(*args, "--header=plan")
    with override_settings(ROOT_URLCONF="tests.nowhere"), pytest.raises(CommandError) as caught:
        run(*args)
    assert str(caught.value).startswith("Such a request fails: ModuleNotFoundError: ")


def test_explain_leaves_what_is_no_bucket(site: Site, prefix: str, raw: redis.Redis) -> None:
    """A peek would remove it."""
    raw.set(f"{prefix}limits:127.0.0.1|/items", "value")
    (limit,) = explained("/items/")
    assert limit["state"] == "a key of another type; the next request fails and removes it"
    assert raw.get(f"{prefix}limits:127.0.0.1|/items") == b"value"
