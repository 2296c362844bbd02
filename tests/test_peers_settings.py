"""``RUSTAUTH["PEERS"]``: what is read, what is wrong, and what it costs where there are none."""

import subprocess
import sys
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from rustauth_django import InvalidConfig
from rustauth_django.conf import get_settings, read_settings
from rustauth_django.conf.peers import DatabasePeer, JwtPeer, RedisPeer
from rustauth_django.connections import get_feature
from rustauth_django.contrib.peers.authentication import Peers
from rustauth_django.contrib.peers.middleware import PeerSessionMiddleware

from .peer_site import MIDDLEWARE

JWT = {"STACK": "better-auth", "VIA": "jwt", "ISSUER": "https://app.example.com"}
REDIS = {"STACK": "better-auth", "VIA": "redis", "SECRET": "a secret of the peer's"}
TABLES = {**REDIS, "VIA": "database"}
LOGIN_REQUIRED = "django.contrib.auth.middleware.LoginRequiredMiddleware"
LIMITS = "rustauth_django.middleware.RateLimitMiddleware"


def peers(**found: Any) -> Any:
    return override_settings(RUSTAUTH={"PEERS": found})


def test_defaults_are_those_of_the_stack() -> None:
    """The names and prefixes that each has without any option."""
    rust = {**REDIS, "STACK": "rustauth"}
    with peers(app=JWT, web=REDIS, rust=rust):
        app, web, other = get_settings().peers
    assert app == JwtPeer(
        *("app", "better-auth", "pk", "anonymous"),
        *(JWT["ISSUER"], JWT["ISSUER"], "https://app.example.com/api/auth/jwks", None),
    )
    assert isinstance(web, RedisPeer)
    assert (web.cookie, web.key_prefix) == ("better-auth.session_token", "better-auth:")
    assert isinstance(other, RedisPeer)
    assert (other.cookie, other.key_prefix) == ("rustauth.session_token", "rustauth:")
    assert "a secret" not in repr(web)
    with peers(sql=TABLES):
        (sql,) = get_settings().peers
    assert isinstance(sql, DatabasePeer)
    assert (sql.cookie, sql.alias) == ("better-auth.session_token", "default")
    assert (sql.sessions.name, sql.users.name) == ("session", "user")


def test_a_cookie_of_https_is_named_once() -> None:
    """Whether the site names it with its prefix or not."""
    for name in ("x", "__Secure-x"):
        with peers(web={**REDIS, "COOKIE": name, "SECURE": True}):
            (web,) = get_settings().peers
        assert isinstance(web, RedisPeer)
        assert web.cookie == "__Secure-x"


@pytest.mark.parametrize(
    ("peer", "told"),
    [
        ("x", 'RUSTAUTH["PEERS"] has'),
        ({}, '["app"]["VIA"] must be "jwt", "redis" or "database"'),
        ({**JWT, "VIA": "smoke"}, '["app"]["VIA"] must be "jwt", "redis" or "database"'),
        ({**JWT, "VIA": []}, '["app"]["VIA"] must be "jwt", "redis" or "database"'),
        ({**JWT, "STACK": ...}, '["app"]["STACK"] must be "better-auth" or "rustauth"'),
        ({**JWT, "STACK": "beter-auth"}, 'Did you mean "better-auth"?'),
        ({**JWT, "STACK": []}, '["app"]["STACK"] must be'),
        ({**JWT, "ISSUER": ...}, '["app"]["ISSUER"] must be the peer\'s base URL'),
        ({**JWT, "ISSUER": "app.example.com"}, '["app"]["ISSUER"] must be'),
        ({**JWT, "ISSUER": "ftp://app.example.com"}, '["app"]["ISSUER"] must be'),
        ({**JWT, "ISSUER": "https://"}, '["app"]["ISSUER"] must be'),
        ({**JWT, "ISSUER": "https://a b.example.com"}, '["app"]["ISSUER"] must be'),
        ({**JWT, "JWKS_URL": "file:///etc/passwd"}, '["app"]["JWKS_URL"] must be'),
        ({**JWT, "JWKS_URL": "https://a:b@x.example.com"}, '["app"]["JWKS_URL"] must be'),
        ({**JWT, "JWKS_URL": "https://x.example.com:port"}, '["app"]["JWKS_URL"] must be'),
        ({**JWT, "AUDIENCE": 1}, '["app"]["AUDIENCE"] must be'),
        ({**JWT, "CACHE_COOKIE": "a b"}, '["app"]["CACHE_COOKIE"] must be'),
        ({**JWT, "SECRET": "x"}, '["app"]["SECRET"] is not a setting'),
        ({**JWT, "USER": "email"}, '["app"]["USER"] cannot be imported'),
        ({**JWT, "USER": "field:"}, '["app"]["USER"] must not be'),
        ({**JWT, "USER": "field:a__b"}, '["app"]["USER"] must not be'),
        ({**JWT, "USER": "id:x"}, '["app"]["USER"] must not be'),
        ({**JWT, "USER": None}, '["app"]["USER"] must be a function'),
        ({**JWT, "USER": lambda: None}, '["app"]["USER"] must take one argument'),
        ({**JWT, "ON_ERROR": "local"}, '["app"]["ON_ERROR"] must be "anonymous" or "deny"'),
        ({**REDIS, "SECRET": ...}, '["app"]["SECRET"] must be the peer\'s secret'),
        ({**REDIS, "SECRET": ""}, '["app"]["SECRET"] must be the peer\'s secret'),
        ({**REDIS, "COOKIE": "a=b"}, '["app"]["COOKIE"] must be the name of a cookie'),
        ({**REDIS, "KEY_PREFIX": 1}, '["app"]["KEY_PREFIX"] must be text'),
        (
            {**REDIS, "STACK": "rustauth", "KEY_PREFIX": ""},
            '["app"]["KEY_PREFIX"] must not be empty',
        ),
        ({**REDIS, "SECURE": "yes"}, '["app"]["SECURE"] must be True or False'),
        ({**REDIS, "URL": 1}, '["app"]["URL"] must be a URL'),
        ({**REDIS, "ISSUER": "x"}, '["app"]["ISSUER"] is not a setting'),
        ({**TABLES, "STACK": "rustauth"}, '["app"]["STACK"] must be "better-auth"'),
        ({**TABLES, "ALIAS": "elsewhere"}, '["app"]["ALIAS"] must be the name of a database'),
        ({**TABLES, "KEY_PREFIX": "x"}, '["app"]["KEY_PREFIX"] is not a setting'),
        ({**TABLES, "TABLES": []}, '["app"]["TABLES"] must be a dictionary'),
        ({**TABLES, "TABLES": {"sessions": {}}}, '["app"]["TABLES"] has'),
        ({**TABLES, "TABLES": {"session": "x"}}, '["app"]["TABLES"] has'),
        ({**TABLES, "TABLES": {"user": {"email": "x"}}}, '["app"]["TABLES"] has "email"'),
        ({**TABLES, "TABLES": {"user": {"id": 'x"; --'}}}, '["app"]["TABLES"] has'),
        ({**TABLES, "TABLES": {"user": {"id": ""}}}, '["app"]["TABLES"] has'),
    ],
)
def test_a_wrong_peer_is_found(peer: Any, told: str) -> None:
    """By its path, and with what to write instead; the others are still read."""
    if isinstance(peer, dict):
        peer = {name: value for name, value in peer.items() if value is not ...}
    with peers(app=peer, web=REDIS):
        settings, problems = read_settings()
        text = "\n".join(map(str, problems))
        with pytest.raises(InvalidConfig):
            get_settings()
    assert told in text
    assert 'RUSTAUTH["PEERS"]' in text
    assert REDIS["SECRET"] not in text
    assert [one.name for one in settings.peers] == ["web"]


def test_peers_are_a_dictionary() -> None:
    """Of names that are text."""
    for wrong in ([JWT], {1: JWT}, {"": JWT}):
        with override_settings(RUSTAUTH={"PEERS": wrong}):
            assert read_settings()[1]


@pytest.mark.parametrize(
    "wrong",
    [
        [{**REDIS, "SECRET": "sesame"}],
        {"app": [{**REDIS, "SECRET": "sesame"}]},
        {"app": {**REDIS, "SECRET": ["sesame"]}},
        {"app": {**REDIS, "URL": ["sesame"]}},
        {"app": {**JWT, "ISSUER": "https://ada:sesame@app.example.com"}},
        {"app": {**JWT, "JWKS_URL": "https://ada:sesame@app.example.com"}},
    ],
)
def test_no_message_has_a_secret(wrong: Any) -> None:
    """Whatever is wrong with it."""
    with override_settings(RUSTAUTH={"PEERS": wrong}):
        _, problems = read_settings()
    assert problems
    assert "sesame" not in "".join(map(str, problems))


def test_a_url_that_cannot_be_opened_stops_the_site() -> None:
    """As it starts; its credentials are in no message."""
    with peers(web={**REDIS, "URL": "http://user:sesame@127.0.0.1"}):
        with pytest.raises(InvalidConfig, match=r'\["PEERS"\]\["web"\]\["URL"\]') as caught:
            PeerSessionMiddleware(lambda request: None)
        (found,) = [one for one in run_checks() if one.id == "rustauth_django.E009"]
    assert "sesame" not in str(caught.value) + found.msg


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, as the site starts."""
    monkeypatch.setitem(sys.modules, "rustauth_django.contrib.peers.tokens", None)
    with peers(app=JWT), pytest.raises(InvalidConfig, match=r"rustauth-django\[jwt\]"):
        get_feature(Peers)


def ids(*, deploy: bool = False) -> set[str]:
    """What the checks of peers find."""
    numbers = ("E009", "E010", "E011", "W015", "W016", "W017")
    found = {str(one.id) for one in run_checks(include_deployment_checks=deploy)}
    return {id.removeprefix("rustauth_django.") for id in found} & set(numbers)


@pytest.mark.parametrize(
    ("middleware", "expected"),
    [
        (MIDDLEWARE, set()),
        ([*MIDDLEWARE, LOGIN_REQUIRED, LIMITS], set()),
        (MIDDLEWARE[:-1], set()),
        ([MIDDLEWARE[-1], *MIDDLEWARE[:-1]], {"E011"}),
        ([MIDDLEWARE[-1]], {"E011"}),
        ([*MIDDLEWARE[:-1], LOGIN_REQUIRED, MIDDLEWARE[-1]], {"W016"}),
        ([*MIDDLEWARE[:-1], LIMITS, MIDDLEWARE[-1]], {"W016"}),
    ],
)
def test_the_place_of_the_middleware_is_checked(middleware: list[str], expected: set[str]) -> None:
    """After Django's own, before what asks who is there."""
    with peers(app=JWT), override_settings(MIDDLEWARE=middleware):
        assert ids() == expected


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("pk", set()),
        ("field:username", set()),
        ("field:email", {"W015"}),
        ("field:nickname", {"E010"}),
        ("field:groups", {"E010"}),
        ("tests.peer_site.user_for", set()),
    ],
)
def test_the_field_of_users_is_checked(user: str, expected: set[str]) -> None:
    """It has to be there, and to tell users apart."""
    with peers(app={**JWT, "USER": user}), override_settings(MIDDLEWARE=MIDDLEWARE):
        assert ids() == expected


@pytest.mark.parametrize(
    ("issuer", "expected"),
    [
        ("https://app.example.com", set()),
        ("http://127.0.0.1:3000", set()),
        ("http://app.example.com", {"W017"}),
    ],
)
def test_keys_come_by_https(issuer: str, expected: set[str]) -> None:
    """From another machine."""
    with peers(app={**JWT, "ISSUER": issuer}), override_settings(MIDDLEWARE=MIDDLEWARE):
        assert ids(deploy=True) == expected


def test_nothing_is_loaded_without_peers() -> None:
    """Neither the package nor what it needs, also not by the checks."""
    code = """
import sys
from django.core.management import call_command
import django
django.setup()
call_command("check")
loaded = [name for name in sys.modules if "contrib.peers" in name or name == "jwt"]
sys.exit(f"loaded: {loaded}" if loaded else 0)
"""
    environment = {"DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": "."}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
