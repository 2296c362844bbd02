"""Settings: every mistake is found, named and explained; nothing secret is told."""

from typing import Any

import pytest
from django.apps import apps
from django.core.checks import INFO, Error, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import AsyncClient, Client, override_settings

from rustauth_django import InvalidConfig, RateLimitRule, rate_limit_store, secondary_storage
from rustauth_django.conf import (
    AUDIT_DEFAULTS,
    DEFAULTS,
    RATE_LIMIT_DEFAULTS,
    SESSIONS_DEFAULTS,
    get_settings,
)
from rustauth_django.connections import get_stores
from rustauth_django.middleware import RateLimitMiddleware

from .servers import Server


class CallableObject:
    """Asynchronous, in a way that Django would not notice."""

    async def __call__(self, request: Any, current: Any) -> Any:
        return current


def check(rustauth: Any, **settings: Any) -> dict[str, str]:
    """What ``manage.py check`` says: ids and messages."""
    with override_settings(RUSTAUTH=rustauth, **settings):
        errors = [message for message in run_checks() if isinstance(message, Error)]
    found = [message for message in errors if (message.id or "").startswith("rustauth_django")]
    assert all(message.hint for message in found)
    return {message.id or "": f"{message.msg} {message.hint}" for message in found}


def check_limits(**rate_limit: Any) -> dict[str, str]:
    return {
        id.removeprefix("rustauth_django."): message
        for id, message in check({"RATE_LIMIT": rate_limit}).items()
    }


def test_everything_has_a_default() -> None:
    """CFG-01, CFG-06, CFG-08, CFG-10: RustAuth's where it has one."""
    with override_settings():
        from django.conf import settings

        if hasattr(settings, "RUSTAUTH"):
            del settings.RUSTAUTH
        assert not [m for m in run_checks() if m.id and m.id.startswith("rustauth_django")]
    assert check({}) == {}
    with override_settings(RUSTAUTH={}, DEBUG=False):
        current = get_settings()
        assert (current.url, current.key_prefix, current.scan_count) == (
            "memory://",
            "rustauth:",
            100,
        )
        limits = current.rate_limit
        assert limits.enabled is True
        assert limits.rules.default == RateLimitRule(window=10, max=100)
        assert limits.rules.base_path == "/api/auth"
        visitors = limits.visitors
        assert (visitors.addresses.headers, visitors.addresses.ipv6_subnet) == ((), 64)
        assert (visitors.track_ip, visitors.missing_ip) == (True, "deny")
        assert limits.on_error == "local"
        assert current.local_refusals == 1
        assert limits.login.account == (RateLimitRule(900, 5, "lockout", escalate=(60, 300, 3600)),)
        assert limits.login.address == RateLimitRule.parse_all("20/15m")


def test_nothing_of_a_callers_limits_is_lost(one_server: Server) -> None:
    """CFG-03, QUIRK-05: naming a server leaves the rest as it was set."""
    limits = {"ENABLED": True, "WINDOW": 30, "MAX": 7, "RULES": [{"path": "/x", "disabled": True}]}
    with override_settings(RUSTAUTH={"URL": one_server.url, "RATE_LIMIT": limits}):
        current = get_settings().rate_limit
        assert current.enabled
        assert current.rules.default == RateLimitRule(window=30, max=7)
        assert len(current.rules.entries) == 1


def test_the_stores_are_at_hand(prefix: str, one_server: Server) -> None:
    """On the AppConfig, and as lazy objects that follow the settings."""
    config = apps.get_app_config("rustauth_django")
    for url in ("memory://", one_server.url):
        with override_settings(RUSTAUTH={"URL": url, "KEY_PREFIX": prefix}):
            secondary_storage.set("key", url, 60)
            assert config.secondary_storage.get("key") == url
            assert config.stores.secondary_storage.get("key") == url
            assert rate_limit_store.consume("key", RateLimitRule(10, 1)).permitted
            assert not config.rate_limit_store.consume("key", RateLimitRule(10, 1)).permitted
            assert secondary_storage.list_keys() == ["key"]
            assert secondary_storage.clear() == 1


def test_nothing_connects_at_start_up() -> None:
    """A server that is away stops no import, no check and no store from being made."""
    assert check({"URL": "redis://127.0.0.1:1/0"}) == {}
    with override_settings(RUSTAUTH={"URL": "redis://127.0.0.1:1/0"}):
        assert "127.0.0.1:1" in repr(get_stores())


@pytest.mark.parametrize(
    ("rustauth", "id", "words"),
    [
        ([], "E001", ["RUSTAUTH must be a dictionary"]),
        ({"ZZZ": "x"}, "E002", ['RUSTAUTH["ZZZ"] is not', 'Known: "URL", "CACHE", ']),
        ({"URI": "x"}, "E002", ['RUSTAUTH["URI"] is not a setting', 'Did you mean "URL"?']),
        ({"url": "x"}, "E002", ['RUSTAUTH["url"]', 'Did you mean "URL"?']),
        ({1: 2}, "E002", ["RUSTAUTH[1] is not a setting"]),
        ({"URL": 5}, "E003", ['RUSTAUTH["URL"] must be a URL']),
        ({"URL": "http://u:secret@h"}, "E005", ['RUSTAUTH["URL"]: ', "redis://, rediss://"]),
        ({"URL": "redis://u:sec/ret@h"}, "E005", ['RUSTAUTH["URL"]: ', "percent-encoded"]),
        ({"CACHE": "absent"}, "E005", ["RUSTAUTH[\"CACHE\"]: there is no cache 'absent'"]),
        ({"CACHE": "redis://:secret@h"}, "E005", ['set it as RUSTAUTH["URL"]']),
        ({"CACHE": "default"}, "E005", ["neither a django_redis.cache.RedisCache nor"]),
        ({"URL": "memory://", "CACHE": "default"}, "E004", ["both set"]),
        ({"CACHE": "default", "CLUSTER": True}, "E004", ['RUSTAUTH["CLUSTER"]', "not a cache"]),
        ({"CLUSTER": "yes"}, "E003", ['RUSTAUTH["CLUSTER"] must be True or False']),
        ({"TELEMETRY": 1}, "E003", ['RUSTAUTH["TELEMETRY"] must be True or False']),
        ({"PLAIN_TOKENS": "p"}, "E003", ['RUSTAUTH["PLAIN_TOKENS"] must be a list of purposes']),
        ({"PLAIN_TOKENS": ["p", "a:b"]}, "E003", ['["PLAIN_TOKENS"][1] must be a purpose']),
        ({"CACHE": "default", "CLIENT_OPTIONS": {"a": 1}}, "E004", ['RUSTAUTH["CLIENT_OPTIONS"]']),
        ({"KEY_PREFIX": ""}, "E003", ['RUSTAUTH["KEY_PREFIX"] must be text', "not ''"]),
        ({"KEY_PREFIX": None}, "E003", ['RUSTAUTH["KEY_PREFIX"]']),
        ({"SCAN_COUNT": 0}, "E003", ['RUSTAUTH["SCAN_COUNT"] must be an int from 1', "not 0"]),
        ({"SCAN_COUNT": True}, "E003", ['RUSTAUTH["SCAN_COUNT"]']),
        ({"SCAN_COUNT": 100.0}, "E003", ['RUSTAUTH["SCAN_COUNT"]']),
        ({"KEY_PREFIX": "\ud800"}, "E003", ['RUSTAUTH["KEY_PREFIX"]']),
        ({"SCAN_COUNT": 2**32}, "E003", ['RUSTAUTH["SCAN_COUNT"]']),
        ({"CLIENT_OPTIONS": [1]}, "E003", ['RUSTAUTH["CLIENT_OPTIONS"] must be a dictionary']),
        (
            {"URL": "redis://h", "CLIENT_OPTIONS": {"socket_timeoutt": 1}},
            "E005",
            ["socket_timeoutt"],
        ),
        ({"SESSIONS": {"UPDATE_AGE": -1}}, "E003", ['["SESSIONS"]["UPDATE_AGE"] must be seconds']),
        ({"SESSIONS": {"UPDATE_AGE": True}}, "E003", ['["SESSIONS"]["UPDATE_AGE"]']),
        ({"SESSIONS": {"IDLE_AGE": 0}}, "E003", ['["SESSIONS"]["IDLE_AGE"] must be an int']),
        ({"SESSIONS": {"MAX_AGE": 1.5}}, "E003", ['["SESSIONS"]["MAX_AGE"] must be an int']),
        ({"SESSIONS": {"MAX_PER_USER": 1001}}, "E003", ["must be an int from 1 to 1000"]),
        ({"SESSIONS": {"COOKIE_SECRET": "short"}}, "E003", ["text of at least 32 characters. "]),
        ({"SESSIONS": {"ADOPT": "no.engine"}}, "E003", ["cannot be imported: ModuleNotFoundError"]),
        ({"SESSIONS": {"ADOPT": "json"}}, "E003", ["is no session engine"]),
        (
            {"SESSIONS": {"ADOPT": "rustauth_django.sessions"}},
            "E003",
            ['["SESSIONS"]["ADOPT"] is this app\'s own engine', "had before."],
        ),
        (
            {"SESSIONS": {"DATABASE": "none"}},
            "E003",
            ["the name of a database in DATABASES"],
        ),
        ({"TEST": {"URI": "memory://"}}, "E002", ['["TEST"]["URI"]', 'Did you mean "URL"?']),
        ({"SESSIONS": {"REVOKE_ON_CHANGES": True}}, "E002", ['Did you mean "REVOKE_ON_CHANGE"?']),
        ({"RATE_LIMIT": 5}, "E003", ['RUSTAUTH["RATE_LIMIT"] must be a dictionary']),
    ],
)
def test_wrong_settings_are_found(rustauth: Any, id: str, words: list[str]) -> None:
    """With an id, the setting's path and what to write instead; never with a password."""
    found = check(rustauth)
    assert f"rustauth_django.{id}" in found
    message = found[f"rustauth_django.{id}"]
    for word in words:
        assert word in message
    assert "sec" not in message.replace("seconds", "")
    with override_settings(RUSTAUTH=rustauth), pytest.raises(InvalidConfig):
        get_stores()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ENABLED", "yes", "must be True, False or None, not 'yes'"),
        ("WINDOW", 0, "must be greater than zero"),
        ("WINDOW", -1, "must be greater than zero"),
        ("WINDOW", "10", "must be seconds as an int"),
        ("WINDOW", True, "must be seconds as an int"),
        ("WINDOW", float("nan"), "must be a number of seconds"),
        ("WINDOW", 10**18, "is too large"),
        ("MAX", 0, "must be greater than zero"),
        ("MAX", 1.5, "must be an int, not float"),
        ("MAX", 2**63, "must fit in i64"),
        ("BASE_PATH", None, 'must be a path like "/api/auth"'),
        ("BASE_PATH", "https://x/api/auth", 'must be a path like "/api/auth"'),
        ("BASE_PATH", "^/api/", 'must be a path like "/api/auth"'),
        ("BASE_PATH", "/api/*", 'must be a path like "/api/auth"'),
        ("RULES", {}, "must be a list of rules"),
        ("IP_HEADERS", "X-Real-IP", "must be a list of header names"),
        ("TRUSTED_PROXIES", "10.0.0.0/8", "must be a list of addresses or networks"),
        ("IPV6_SUBNET", 129, "must be an int from 0 to 128, not 129"),
        ("IPV6_SUBNET", True, "must be an int from 0 to 128"),
        ("IPV6_SUBNET", 64.0, "must be an int from 0 to 128"),
        ("TRACK_IP", 1.5, "must be True or False"),
        ("MISSING_IP", "share", '"deny", "shared-bucket" or "allow"'),
        ("ON_ERROR", "open", '"local", "deny", "allow" or "raise"'),
        ("LOCAL_REFUSALS", -1, "must be seconds from 0 to 60"),
        ("LOCAL_REFUSALS", True, "must be seconds from 0 to 60"),
        ("LOCAL_REFUSALS", 61, "must be seconds from 0 to 60"),
        ("ALLOW", {}, "must be a list of networks or a function"),
        ("ALLOW", "10.0.0.0/8", "cannot be imported"),
        ("DENY", "tests.settings.SECRET_KEY", "must be a function, or its dotted path"),
        ("DENY", lambda: True, "must take one argument"),
        ("LOGIN", [], "must be a dictionary"),
    ],
)
def test_wrong_limits_are_found(name: str, value: Any, words: str) -> None:
    """CFG-07: at start-up, not by the first request."""
    (message,) = check_limits(**{name: value}).values()
    assert message.startswith(f'RUSTAUTH["RATE_LIMIT"]["{name}"] ')
    assert words in message


RUSTAUTH = {"window": 9, "algorithm": "rustauth"}


@pytest.mark.parametrize(
    ("login", "id", "words"),
    [
        ({"USER": "5/m"}, "E002", '["LOGIN"]["USER"] is not a setting'),
        (
            {"ACCOUNT": "5 per minute"},
            "E003",
            '["LOGIN"]["ACCOUNT"] cannot be read: \'5 per minute',
        ),
        ({"ADDRESS": {"window": 5}}, "E003", '["LOGIN"]["ADDRESS"] must have "window" and "max"'),
        ({"DEVICE_COOKIE": 0}, "E003", '["LOGIN"]["DEVICE_COOKIE"] must be an int of seconds'),
        ({"DEVICE_COOKIE": True}, "E003", '["LOGIN"]["DEVICE_COOKIE"] must be an int of seconds'),
        ({"ACCOUNT": "1001/d"}, "E003", '["LOGIN"]["ACCOUNT"] must be at most 1000 attempts'),
        ({"ADDRESS": {"windows": 5}}, "E003", 'Did you mean "window"?'),
        ({"ACCOUNT": {"window": 5, "max": 0}}, "E003", "max must be greater than zero"),
        ({"ADDRESS": [{**RUSTAUTH, "max": count} for count in (1, 2)]}, "E003", "share"),
        ({"ACCOUNT": 5}, "E003", "a rate must be text or a RateLimitRule"),
    ],
)
def test_wrong_rules_for_logins_are_found(login: Any, id: str, words: str) -> None:
    """By their path."""
    assert words in check_limits(LOGIN=login)[id]


def test_rules_of_every_kind_are_read() -> None:
    """With the options of their algorithms, and several rates at once."""
    rules: list[Any] = [
        {"path": "/a", "rate": "5/m; 10/s burst 20"},
        {"path": "/b", "window": 60, "max": 5, "escalate": [60, 300], "on_error": "deny"},
        {"path": "/c", "rate": [{"window": 1, "max": 2}, RateLimitRule.parse("1/s")]},
    ]
    with override_settings(RUSTAUTH={"RATE_LIMIT": {"RULES": rules}}):
        entries = get_settings().rate_limit.rules.entries
    assert [entry.rule for entry in entries] == [
        (RateLimitRule(60, 5, "sliding-log"), RateLimitRule(1, 10, "gcra", burst=20)),
        (RateLimitRule(60, 5, "lockout", escalate=(60, 300)),),
        (RateLimitRule(1, 2), RateLimitRule(1, 1, "sliding-log")),
    ]
    assert [entry.on_error for entry in entries] == [None, "deny", None]


def test_an_unknown_limit_gets_a_hint() -> None:
    """Did you mean."""
    message = check_limits(TRUSTED_PROXYS=[])["E002"]
    assert message == (
        'RUSTAUTH["RATE_LIMIT"]["TRUSTED_PROXYS"] is not a setting. Did you mean "TRUSTED_PROXIES"?'
    )


@pytest.mark.parametrize(
    "header", ["X Real IP", "", 5, "X-Forwarded-For:", "REMOTE_ADDR", "Forwarded"]
)
def test_wrong_headers_are_found(header: Any) -> None:
    """Names of headers, either spelling; REMOTE_ADDR is none, and as one could be forged."""
    message = check_limits(IP_HEADERS=["X-Real-IP", "HTTP_X_FORWARDED_FOR", header])["E003"]
    assert message.startswith('RUSTAUTH["RATE_LIMIT"]["IP_HEADERS"][2] must ')
    assert "header" in message


def test_mapped_proxies_are_the_proxies_they_map(runner: Any) -> None:
    """IP-11: an IPv4 address in IPv6 form is that address."""
    with override_settings(
        RUSTAUTH={"RATE_LIMIT": {"TRUSTED_PROXIES": ["::ffff:10.0.0.5", "::ffff:10.1.0.0/112"]}}
    ):
        proxies = get_settings().rate_limit.visitors.addresses.trusted_proxies
    assert [str(network) for network in proxies] == ["10.0.0.5/32", "10.1.0.0/16"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("socket_timeout", "0.5"),
        ("socket_connect_timeout", True),
        ("timeout", "1"),
        ("timeout", -1),
        ("health_check_interval", "30"),
        ("max_connections", "10"),
        ("max_connections", 0),
        ("max_connections", 2**40),
        ("max_connections", None),
        ("socket_timeout", 0),
        ("socket_keepalive_options", "x"),
        ("credential_provider", "x"),
        ("command_packer", "x"),
        ("redis_connect_func", print),
        ("encoding", "latin-1"),
        ("encoding_errors", "nope"),
        ("client_name", 5),
        ("retry", 3),
        ("protocol", 9),
        ("connection_class", "x.Y"),
    ],
)
def test_client_options_that_fail_in_use_are_found(option: str, value: Any) -> None:
    """Where redis-py would stumble over them in the middle of a request."""
    found = check({"URL": "redis://h", "CLIENT_OPTIONS": {option: value}})
    message = found["rustauth_django.E005"]
    assert message.startswith('RUSTAUTH["CLIENT_OPTIONS"]: the ')
    assert "the redis client refuses" in message or repr(option) in message


def test_options_in_the_url_are_checked_too() -> None:
    """They are the same options."""
    assert "'retry'" in check({"URL": "redis://h?retry=3"})["rustauth_django.E005"]
    assert "no host name" in check({"URL": "redis://a..b"})["rustauth_django.E005"]


def test_a_rule_may_live_where_the_stores_are_used() -> None:
    """Settings name modules of the site's, and those import us and use us."""
    with override_settings(RUSTAUTH={"RATE_LIMIT": {"RULES": ["tests.entangled.rule"]}}):
        assert len(get_settings().rate_limit.rules.entries) == 1
        assert get_stores().rate_limit_store.clear() == 0


@pytest.mark.parametrize(
    "proxy",
    ["10.0.0./8", "10.0.0.0/8x", "10.0.0.0/33", "10.0.0.0/3.5", "10.0.0.0/", "not-an-ip", "", 5,
     "10.0.0.0/255.0.0.0", "fe80::1%eth0", "::/129"],
)  # fmt: skip
def test_wrong_proxies_are_found(proxy: Any) -> None:
    """IP-12: an entry that is not understood is an error, not one proxy less."""
    message = check_limits(TRUSTED_PROXIES=["::1", "0.0.0.0/1", proxy])["E003"]
    assert message.startswith('RUSTAUTH["RATE_LIMIT"]["TRUSTED_PROXIES"][2] must be an address')


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (5, "must be a dictionary or the dotted path of a function"),
        ({}, 'must have exactly one of "path", "view_name" or "route"'),
        ({"path": "/x", "route": "x", "disabled": True}, "must have exactly one of"),
        ({"path": ""}, 'must have text as its "path"'),
        ({"path": "x/*", "disabled": True}, "can match no path"),
        ({"path": "/x"}, 'must have "window" and "max", or "rate", or "disabled"'),
        ({"path": "/x", "window": 10}, 'must have "window" and "max"'),
        ({"path": "/x", "window": 10, "max": 3, "disabled": True}, 'must have "window" and "max"'),
        ({"path": "/x", "disabled": False}, 'must have "window" and "max"'),
        ({"path": "/x", "window": 0, "max": 3}, "window must be greater than zero"),
        ({"path": "/x", "window": 10, "max": "3"}, "max must be an int, not str"),
        ({"path": "/x", "windows": 10}, 'has the unknown key "windows". Did you mean "window"?'),
        ({"path": "/x", "window": 10, "max": 3, "methods": "POST"}, 'Like ["POST"].'),
        ({"path": "/x", "window": 10, "max": 3, "methods": []}, 'Like ["POST"].'),
        ({"path": "/x", "window": 10, "max": 3, "methods": [5]}, 'Like ["POST"].'),
        ({"path": "/x", "rate": "5/month"}, "'5/month' is not a rate"),
        ({"path": "/x", "rate": 5}, "a rate must be text or a RateLimitRule, not int"),
        ({"path": "/x", "rate": []}, "cannot be read"),
        ({"path": "/x", "rate": "5/m", "max": 3}, 'must have "window" and "max", or "rate"'),
        ({"path": "/x", "burst": 5}, 'must have "window" and "max", or "rate"'),
        ({"path": "/x", "window": 1, "max": 3, "burst": 5}, "burst must be greater than zero, and"),
        ({"path": "/x", "window": 1, "max": 3, "algorithm": "bucket"}, "algorithm must be one of"),
        ({"path": "/x", "window": 1, "max": 3, "escalate": 60}, "escalate must be a tuple"),
        ({"path": "/x", "window": 1, "max": 3, "on_error": "no"}, 'as its "on_error"'),
        ("tests.nowhere.function", "cannot be imported"),
        ("nonsense", "cannot be imported"),
        ("tests.settings.SECRET_KEY", "must be a function, or its dotted path"),
        ({"path": "/x", "rule": 5}, "must be a function, or its dotted path"),
        ({"path": "/x", "window": 10, "max": 3, "methods": ["PSOT"]}, 'Did you mean "POST"?'),
        ({"path": "/*/x/*", "disabled": True}, "can match no path"),
        ({"path": "/x?y=1", "disabled": True}, "can match no path"),
        ({"path": "/items/<int:pk>", "disabled": True}, 'for parameters, use "route"'),
        ({"path": "/items/:pk", "disabled": True}, "can match no path"),
        ({"path": "/%C3%BC", "disabled": True}, "can match no path"),
        ({"path": "/x ", "disabled": True}, "can match no path"),
        (lambda: None, "must take two arguments"),
        (lambda request: None, "must take two arguments"),
        (CallableObject(), "must be a function, or its dotted path"),
        ("tests.test_conf.Subclass", "must be a function, or its dotted path"),
        ("tests.broken_module.function", "cannot be imported: RuntimeError: as modules are"),
    ],
)  # fmt: skip
def test_wrong_rules_are_found(rule: Any, words: str) -> None:
    """By their place in the list."""
    found = check_limits(RULES=[{"path": "/fine", "disabled": True}, rule])
    assert found["E006"].startswith('RUSTAUTH["RATE_LIMIT"]["RULES"][1] ')
    assert words in found["E006"]


def test_everything_is_told_at_once() -> None:
    """One run of check, all mistakes; and so does the error that stops the site."""
    rustauth = {"URI": 1, "SCAN_COUNT": 0, "RATE_LIMIT": {"MAX": 0, "RULES": [5], "TRACK_IP": 7}}
    with override_settings(RUSTAUTH=rustauth):
        assert len([m for m in run_checks() if m.id and m.id.startswith("rustauth")]) == 5
        with pytest.raises(ImproperlyConfigured) as caught:
            get_settings()
    for name in ("URI", "SCAN_COUNT", "MAX", "RULES", "TRACK_IP"):
        assert f'["{name}"]' in str(caught.value)


def test_a_wrong_setting_stops_the_site(runner: Any) -> None:
    """Fail closed: no request is served unlimited because of a typing error."""
    with override_settings(RUSTAUTH={"RATE_LIMIT": {"MAXX": 3}}):
        if runner is None:
            with pytest.raises(InvalidConfig, match="MAXX"):
                Client().get("/items/")
        else:
            with pytest.raises(InvalidConfig, match="MAXX"):
                runner.run(AsyncClient().get("/items/"))


def test_settings_show_no_credentials() -> None:
    """In their repr, which tracebacks and debuggers print."""
    options = {"password": "secret"}
    with override_settings(RUSTAUTH={"URL": "redis://u:secret@h", "CLIENT_OPTIONS": options}):
        assert "secret" not in repr(get_settings())


REDIS_CACHES = {
    "django-redis": {
        "BACKEND": "django_redis.cache.RedisCache",
        "OPTIONS": {"SERIALIZER": "django_redis.serializers.json.JSONSerializer"},
    },
    "django": {"BACKEND": "django.core.cache.backends.redis.RedisCache"},
}


@pytest.mark.parametrize("kind", REDIS_CACHES)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_redis_cache_lends_its_connections(
    kind: str, server: Server, raw: Any, prefix: str, runner: Any
) -> None:
    """Its pool, not its key prefix, version or serializer; close leaves it open."""
    from django.core.cache import caches

    from .faces import Face

    cache = {**REDIS_CACHES[kind], "LOCATION": server.url, "KEY_PREFIX": "cache", "VERSION": 7}
    with override_settings(
        CACHES={"default": cache}, RUSTAUTH={"CACHE": "default", "KEY_PREFIX": prefix}
    ):
        caches["default"].set("warm", 1, 60)
        before = len(raw.client_list())
        storage = Face(get_stores().secondary_storage, None)
        storage.set("key", "grüße", 60)
        assert len(raw.client_list()) == before
        storage = Face(get_stores().secondary_storage, runner)
        assert storage.get("key") == "grüße"
        assert raw.get(f"{prefix}secondary:key") == "grüße"
        get_stores().close()
        assert caches["default"].get("warm") == 1
        assert check({"CACHE": "default", "KEY_PREFIX": prefix}, CACHES={"default": cache}) == {}
        caches["default"].delete("warm")


SLOW = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://slow-cache"}
QUICK = {
    "BACKEND": "django.core.cache.backends.redis.RedisCache",
    "LOCATION": "redis://quick-cache",
    "OPTIONS": {"socket_timeout": 0.5},
}


@pytest.mark.parametrize(
    ("cache", "words"),
    [
        ({**SLOW, "LOCATION": "http://u:secret@h"}, "cannot be opened"),
        ({**SLOW, "OPTIONS": {"CLIENT_CLASS": "django_redis.client.ShardClient"}}, "on one server"),
        ({**QUICK, "LOCATION": "http://u:secret@h"}, "cannot be opened"),
    ],
)
def test_a_cache_that_cannot_be_shared_is_found(cache: Any, words: str) -> None:
    """And its address is not told."""
    found = check({"CACHE": "broken"}, CACHES={"broken": cache})["rustauth_django.E005"]
    assert found.startswith("RUSTAUTH[\"CACHE\"]: the cache 'broken'")
    assert words in found
    assert "secret" not in found
    assert "W007" not in deployment({"CACHE": "broken"}, CACHES={"broken": cache})


TRUSTS_ALL = {"TRUSTED_PROXIES": ["::/0"], "IP_HEADERS": ["X-Real-IP"]}
TRUSTS_HALVES = {
    "TRUSTED_PROXIES": ["0.0.0.0/1", "128.0.0.0/1"],
    "IP_HEADERS": ["X-Forwarded-For"],
}


def deployment(rustauth: Any, **settings: Any) -> list[str]:
    """What ``check --deploy`` says of us."""
    with override_settings(RUSTAUTH=rustauth, **settings):
        found = run_checks(include_deployment_checks=True)
    return [m.id.partition(".")[2] for m in found if m.id and m.id.startswith("rustauth_django.W")]


OURS = "rustauth_django.middleware.RateLimitMiddleware"
CSRF = "django.middleware.csrf.CsrfViewMiddleware"
CONDITIONAL = "django.middleware.http.ConditionalGetMiddleware"


@pytest.mark.parametrize(
    ("rustauth", "settings", "ids"),
    [
        ({"URL": "redis://h"}, {}, []),
        ({}, {}, ["W001"]),
        ({"URL": "memory://"}, {}, ["W001"]),
        ({"URL": "redis://h"}, {"MIDDLEWARE": []}, ["W002"]),
        ({"URL": "redis://h"}, {"MIDDLEWARE": [CSRF, OURS]}, []),
        ({"URL": "redis://h"}, {"MIDDLEWARE": [OURS, CSRF]}, ["W003"]),
        ({"URL": "redis://h"}, {"MIDDLEWARE": [OURS, OURS]}, ["W003"]),
        ({"URL": "redis://h"}, {"MIDDLEWARE": [CONDITIONAL, CSRF, OURS]}, ["W012"]),
        ({"URL": "redis://h"}, {"MIDDLEWARE": [CSRF, OURS, CONDITIONAL]}, []),
        ({"URL": "redis://h"}, {"MIDDLEWARE": ["no.such", "tests.test_conf.Subclass"]}, []),
        ({"URL": "redis://h", "RATE_LIMIT": {"ENABLED": False}}, {}, ["W004"]),
        ({"URL": "redis://h"}, {"DEBUG": True}, ["W004"]),
        ({"URL": "redis://h", "RATE_LIMIT": TRUSTS_ALL}, {}, ["W005"]),
        ({"URL": "redis://h", "RATE_LIMIT": TRUSTS_HALVES}, {}, ["W005"]),
        ({"URL": "redis://h", "RATE_LIMIT": {"TRUSTED_PROXIES": ["10.0.0.1"]}}, {}, ["W008"]),
        ({"CACHE": "slow"}, {"CACHES": {"slow": SLOW}}, ["W007"]),
        ({"CACHE": "quick"}, {"CACHES": {"quick": QUICK}}, []),
    ],
)
def test_what_should_not_go_into_production(rustauth: Any, settings: Any, ids: list[str]) -> None:
    """Deploy-time warnings."""
    assert deployment(rustauth, **settings) == ids


@pytest.mark.parametrize(
    ("by", "value", "hint"),
    [
        ("view_name", "itmes", 'Did you mean "items"?'),
        ("view_name", "nope", "No known name is similar."),
        ("route", "itemss/<int:pk>/", 'Did you mean "items/<int:pk>/"?'),
        ("view_name", "admin:login", None),
        ("view_name", "members:login", None),
        ("view_name", "tests.urls.exempt", None),
        ("route", "api/auth/sign-in/email", None),
        ("route", "/items/<int:pk>/", None),
        ("route", r"^years/(?P<year>[0-9]{4})/$", None),
    ],
)
def test_rules_for_what_is_not_there_are_told(by: str, value: str, hint: str | None) -> None:
    """A typing error in a name is a limit less."""
    rule = {by: value, "window": 60, "max": 1}
    with override_settings(RUSTAUTH={"RATE_LIMIT": {"RULES": [rule]}}):
        found = [m for m in run_checks() if m.id == "rustauth_django.W009"]
    assert [m.hint for m in found] == ([hint] if hint else [])


LAX = {"window": 10, "max": 1000}


@pytest.mark.parametrize(
    ("rule", "warns"),
    [
        ({"path": "*", **LAX}, True),
        ({"path": "/api/*", **LAX}, True),
        ({"path": "/api/auth/*", "disabled": True}, True),
        ({"path": "/s*", "methods": ["POST"], **LAX}, True),
        ({"path": "/s*", "methods": ["GET"], **LAX}, False),
        ({"path": "*", "window": 60, "max": 3}, False),
        ({"path": "*", "rule": "tests.entangled.rule"}, False),
        ({"path": "/sign-in/*", **LAX}, False),
        ({"path": "/api/auth/sign-in*", **LAX}, False),
        ({"path": "/sign-in/email", "disabled": True}, False),
        ({"path": "/search/*", **LAX}, False),
        ({"view_name": "login", **LAX}, False),
    ],
)
def test_a_broad_rule_that_loosens_sign_in_is_told(rule: Any, warns: bool) -> None:
    """QUIRK-28: a rule for everything is a rule for sign-in; one that means it is not told."""
    found = deployment({"URL": "redis://h", "RATE_LIMIT": {"RULES": [rule]}})
    assert found == (["W006"] if warns else [])


class Subclass(RateLimitMiddleware):
    """A site's own limiter."""


def test_every_setting_is_known() -> None:
    """The names of the issue, no more and no less."""
    assert set(DEFAULTS) == {
        "URL",
        "CACHE",
        "CLUSTER",
        "KEY_PREFIX",
        "SCAN_COUNT",
        "CLIENT_OPTIONS",
        "TELEMETRY",
        "PLAIN_TOKENS",
        "RATE_LIMIT",
        "SESSIONS",
        "PEERS",
        "AUDIT",
        "TEST",
    }
    assert set(AUDIT_DEFAULTS) == {"TO", "ADDRESSES"}
    assert set(SESSIONS_DEFAULTS) == {
        "COOKIE_SECRET",
        "UPDATE_AGE",
        "IDLE_AGE",
        "MAX_AGE",
        "MAX_PER_USER",
        "REVOKE_ON_CHANGE",
        "ADOPT",
        "DATABASE",
    }
    assert set(RATE_LIMIT_DEFAULTS) == {
        "ENABLED", "WINDOW", "MAX", "BASE_PATH", "RULES", "IP_HEADERS", "TRUSTED_PROXIES",
        "IPV6_SUBNET", "TRACK_IP", "MISSING_IP", "ALLOW", "DENY", "ON_ERROR",
        "LOCAL_REFUSALS", "LOGIN",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("debug", "limits", "is_told"),
    [
        (True, {}, True),
        (True, {"ENABLED": True}, False),
        (True, {"ENABLED": False}, False),
        (False, {}, False),
    ],
)
def test_a_newcomer_is_told_why_nothing_is_limited(
    debug: bool, limits: dict[str, Any], is_told: bool
) -> None:
    """By every ``manage.py check``, until the setting is set."""
    with override_settings(DEBUG=debug, RUSTAUTH={"URL": "memory://", "RATE_LIMIT": limits}):
        found = [one for one in run_checks() if one.id == "rustauth_django.I001"]
    assert [one.level for one in found] == [INFO] * is_told
