"""``settings.RUSTAUTH``, read in this one place into one frozen value.

The whole dictionary is read even if a setting in it is wrong, so that ``manage.py check`` reports
all problems at once.
"""

import hmac
import re
from dataclasses import dataclass, field, replace
from http import HTTPMethod
from importlib import import_module
from ipaddress import IPv6Address, ip_network
from typing import Any, get_args

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.encoding import force_bytes, force_str

from ..engine.keyspace import DEFAULT_PREFIX, DEFAULT_SCAN_COUNT, MAX_SESSIONS, PURPOSE
from ..exceptions import InvalidConfig
from ..limits.access import Access
from ..limits.clients import ClientAddresses, Network
from ..limits.keys import MissingIP, Visitors
from ..limits.options import GuardOptions, LoginRules
from ..limits.rates import MAX_LOG, OnError, RateLimitRule, to_rules
from ..limits.rules import RuleEntry, RuleSet, Selector, SelectorKind
from .peers import Peer, read_peers
from .sections import Problem, Section, Wrong, did_you_mean, either, quote, shown
from .values import (
    is_bool,
    is_int,
    is_none_or_int,
    is_options,
    is_path,
    is_short,
    is_text,
    read_function,
)

DEFAULTS: dict[str, Any] = {
    "URL": None,
    "CACHE": None,
    "CLUSTER": False,
    "KEY_PREFIX": DEFAULT_PREFIX,
    "SCAN_COUNT": DEFAULT_SCAN_COUNT,
    "CLIENT_OPTIONS": {},
    "TELEMETRY": False,
    "PLAIN_TOKENS": [],
    "RATE_LIMIT": {},
    "SESSIONS": {},
    "PEERS": {},
    "AUDIT": None,
    "TEST": {},
}
TEST_DEFAULTS: dict[str, Any] = {"URL": None}
SESSIONS_DEFAULTS: dict[str, Any] = {
    "COOKIE_SECRET": None,
    "UPDATE_AGE": 86_400,
    "IDLE_AGE": None,
    "MAX_AGE": None,
    "MAX_PER_USER": None,
    "REVOKE_ON_CHANGE": True,
    "ADOPT": None,
    "DATABASE": None,
}
# As long as RustAuth wants it.
SHORTEST_SECRET = 32
# What a secret that is derived from SECRET_KEY is for.
COOKIE_SECRET_OF = b"rustauth_django.sessions.cookies"
RATE_LIMIT_DEFAULTS: dict[str, Any] = {
    "ENABLED": None,
    "WINDOW": 10,
    "MAX": 100,
    "BASE_PATH": "/api/auth",
    "RULES": [],
    "IP_HEADERS": [],
    "TRUSTED_PROXIES": [],
    "IPV6_SUBNET": 64,
    "TRACK_IP": True,
    "MISSING_IP": "deny",
    "ALLOW": [],
    "DENY": [],
    "ON_ERROR": "local",
    "LOCAL_REFUSALS": 1,
    "LOGIN": {},
}
# Browsers keep no cookie for longer: 400 days.
MAX_COOKIE_AGE = 400 * 86_400
LOGIN_DEFAULTS: dict[str, Any] = {
    "DEVICE_COOKIE": 180 * 86_400,
    "NAMES": [],
    "PAIR": None,
    "ACCOUNT": {"window": 900, "max": 5, "escalate": [60, 300, 3600]},
    "ADDRESS": "20/15m",
}
LOGIN_RATES = ("ACCOUNT", "ADDRESS", "PAIR")
AUDIT_DEFAULTS: dict[str, Any] = {"TO": "log", "ADDRESSES": False}
SELECTORS: tuple[SelectorKind, ...] = get_args(SelectorKind)
# A rule is "window" and "max", with or without options, or a rate as text.
RULE_OPTIONS = ("algorithm", "burst", "escalate")
COUNTS = ("window", "max", *RULE_OPTIONS)
OUTCOMES = (*COUNTS, "rate", "disabled", "rule")
RULE_KEYS = (*SELECTORS, "methods", *OUTCOMES, "on_error")
MISSING_IP: tuple[str, ...] = get_args(MissingIP)
ON_ERROR: tuple[str, ...] = get_args(OnError)
RULE_DEFAULT = {"window": RATE_LIMIT_DEFAULTS["WINDOW"], "max": RATE_LIMIT_DEFAULTS["MAX"]}
# Rates are a list at most, and may be joined lists.
MAX_DEPTH = 3
RULE_HINT = 'For example {"path": "/sign-in/*", "window": 10, "max": 3}.'
RATE_HINT = 'For example "20/15m", or {"window": 900, "max": 5, "escalate": [60, 300]}.'
FUNCTION_HINT = "It is called with the request and the current rule, and returns rates or None."
ACCESS_HINT = "It is called with the request and returns True or False."


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """``RUSTAUTH["SESSIONS"]``. Ages are in seconds; None stands for never, or no limit.

    The first of the ``cookie_secrets`` signs, the others are still accepted. ``update_age`` says
    when a session is prolonged.
    """

    cookie_secrets: tuple[bytes, ...] = field(repr=False)
    update_age: int | None
    idle_age: int | None
    max_age: int | None
    max_per_user: int
    revoke_on_change: bool
    adopt: type[SessionBase] | None
    database: str | None


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """``RUSTAUTH["AUDIT"]``: does a line have the client's address?"""

    addresses: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """``settings.RUSTAUTH``, checked and complete."""

    url: str = field(repr=False)
    cache: str | None
    cluster: bool
    key_prefix: str
    scan_count: int
    client_options: dict[str, Any] = field(repr=False)
    telemetry: bool
    plain_tokens: frozenset[str]
    local_refusals: float
    rate_limit: GuardOptions
    sessions: SessionOptions
    peers: tuple[Peer, ...]
    audit: AuditOptions | None
    test_url: str | None = field(repr=False)


# What is read for them, of which Django tells if a test changes it.
READ = ("RUSTAUTH", "DEBUG", "SECRET_KEY", "SECRET_KEY_FALLBACKS", "SESSION_COOKIE_SECURE")

_current: Settings | None = None
# How many ``override_settings(RUSTAUTH=...)`` are in force.
_overrides = 0


def get_settings() -> Settings:
    """The settings in force. Raises ``InvalidConfig``, which lists every problem."""
    global _current
    current = _current
    if current is None:
        current, problems = read_settings()
        if problems:
            raise InvalidConfig("\n".join(map(str, problems)))
        _current = current
    return current


def for_tests(found: Settings) -> Settings:
    """What these settings mean while tests run: memory in place of the server, or the server at
    ``RUSTAUTH["TEST"]["URL"]``. What a test overrides is meant as it is.
    """
    is_memory = found.cache is None and found.url == "memory://"
    if not found.test_url and (_overrides or is_memory):
        return found
    kept = found.client_options if found.test_url and found.cache is None else {}
    url = found.test_url or "memory://"
    return replace(found, url=url, cache=None, cluster=False, client_options=kept)


@receiver(setting_changed)
def forget_settings(*, setting: str, enter: bool, **kwargs: Any) -> None:
    """Read anew after ``override_settings``."""
    global _current, _overrides
    if setting == "RUSTAUTH":
        _overrides += 1 if enter else -1
    if setting in READ:
        _current = None


def of_django(name: str) -> Any:
    """A setting of Django's own."""
    return getattr(settings, name)


def session_cookie() -> dict[str, Any]:
    """The arguments of ``set_cookie`` for a cookie with the same protection as the session's."""
    return {
        "domain": settings.SESSION_COOKIE_DOMAIN,
        "path": settings.SESSION_COOKIE_PATH,
        "secure": settings.SESSION_COOKIE_SECURE or None,
        "samesite": settings.SESSION_COOKIE_SAMESITE,
    }


def read_settings() -> tuple[Settings, list[Problem]]:
    """The settings, with the default in place of each wrong one, and the problems."""
    problems: list[Problem] = []
    raw = getattr(settings, "RUSTAUTH", {})
    if not isinstance(raw, dict):
        hint = 'Write RUSTAUTH = {"URL": "redis://127.0.0.1:6379/0"}.'
        problems.append(Problem("E001", "RUSTAUTH", "must be a dictionary", hint))
        raw = {}
    return _read_top(Section(raw, DEFAULTS, "RUSTAUTH", problems)), problems


def _read_top(top: Section) -> Settings:
    if top.raw.get("URL") is not None and top.raw.get("CACHE") is not None:
        top.problem("E004", "CACHE", 'and RUSTAUTH["URL"] are both set', "Keep one of them.")
    options = top.get("CLIENT_OPTIONS", "a dictionary of client options", is_options, secret=True)
    if top.raw.get("CACHE") is not None and options:
        hint = "Set the options of that cache in CACHES."
        message = 'cannot change the connections of RUSTAUTH["CACHE"]'
        top.problem("E004", "CLIENT_OPTIONS", message, hint)
    if top.raw.get("CACHE") is not None and top.raw.get("CLUSTER"):
        hint = 'Set RUSTAUTH["URL"] to one of its nodes.'
        top.problem("E004", "CLUSTER", "needs a URL, not a cache", hint)
    limits = top.within("RATE_LIMIT", RATE_LIMIT_DEFAULTS)
    return Settings(
        url=top.get("URL", "a URL", is_text, secret=True) or "memory://",
        cache=top.get("CACHE", "the name of a cache", is_text),
        cluster=top.get("CLUSTER", "True or False", is_bool),
        key_prefix=top.get("KEY_PREFIX", "text that is not empty", is_text),
        scan_count=top.get("SCAN_COUNT", "an int from 1 to 4294967295", is_int(1, 2**32 - 1)),
        client_options=options,
        telemetry=top.get("TELEMETRY", "True or False", is_bool),
        plain_tokens=frozenset(top.each("PLAIN_TOKENS", "a list of purposes", _read_purpose)),
        local_refusals=limits.get("LOCAL_REFUSALS", "seconds from 0 to 60", is_short),
        rate_limit=_read_rate_limit(limits),
        sessions=_read_sessions(top.within("SESSIONS", SESSIONS_DEFAULTS)),
        peers=read_peers(
            top,
            secure_cookies=settings.SESSION_COOKIE_SECURE,
            databases=settings.DATABASES,
        ),
        audit=_read_audit(top),
        test_url=top.within("TEST", TEST_DEFAULTS).get("URL", "a URL", is_text, secret=True),
    )


def _read_audit(top: Section) -> AuditOptions | None:
    if top.raw.get("AUDIT") is None:
        return None
    section = top.within("AUDIT", AUDIT_DEFAULTS)
    section.get("TO", '"log"', lambda value: value == "log")
    return AuditOptions(section.get("ADDRESSES", "True or False", is_bool))


def _read_sessions(section: Section) -> SessionOptions:
    is_limit = is_none_or_int(1, 2**31)
    most = section.get(
        "MAX_PER_USER",
        f"an int from 1 to {MAX_SESSIONS}, or None",
        is_none_or_int(1, MAX_SESSIONS),
    )
    secret = section.get(
        "COOKIE_SECRET",
        f"text of at least {SHORTEST_SECRET} characters",
        lambda value: is_text(value) and len(value) >= SHORTEST_SECRET,
        secret=True,
    )
    return SessionOptions(
        cookie_secrets=(secret.encode(),) if secret else _derived_secrets(),
        update_age=section.get("UPDATE_AGE", "seconds or None", is_none_or_int(0, 2**31)),
        idle_age=section.get("IDLE_AGE", "an int of seconds above 0, or None", is_limit),
        max_age=section.get("MAX_AGE", "an int of seconds above 0, or None", is_limit),
        max_per_user=most or MAX_SESSIONS,
        revoke_on_change=section.get("REVOKE_ON_CHANGE", "True or False", is_bool),
        adopt=_read_engine(section),
        database=section.get(
            "DATABASE",
            "the name of a database in DATABASES",
            lambda value: is_text(value) and value in settings.DATABASES,
        ),
    )


def _read_engine(section: Section) -> type[SessionBase] | None:
    """The class of session stores of another engine."""
    path = section.get("ADOPT", "the dotted path of a session engine", is_text)
    engine = None
    if path is not None:
        with section.noting("ADOPT"):
            engine = _import_engine(path)
    return engine


def _import_engine(path: str) -> type[SessionBase]:
    hint = 'Like "django.contrib.sessions.backends.db".'
    try:
        engine = getattr(import_module(path), "SessionStore", None)
    except Exception as error:  # noqa: BLE001  # whatever the engine's module does
        raise Wrong(f"cannot be imported: {type(error).__name__}: {error}", hint) from None
    if not isinstance(engine, type) or not issubclass(engine, SessionBase):
        raise Wrong("is no session engine: it has no SessionStore", hint)
    if any(base.__module__.startswith("rustauth_django.") for base in engine.__mro__):
        raise Wrong("is this app's own engine", "Name the one that the site had before.")
    return engine


def _derived_secrets() -> tuple[bytes, ...]:
    """Secrets for cookies of sessions, from those of Django."""
    secrets = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    return tuple(hmac.digest(force_bytes(secret), COOKIE_SECRET_OF, "sha256") for secret in secrets)


def _read_purpose(value: Any) -> str:
    if not isinstance(value, str) or not PURPOSE.fullmatch(value):
        hint = 'Like "reset-password": 1 to 64 letters, digits, "-", "_" or ".".'
        raise Wrong(f"must be a purpose, not {shown(value)}", hint)
    return value


def _read_rate_limit(section: Section) -> GuardOptions:
    get, each = section.get, section.each
    enabled = get("ENABLED", "True, False or None", is_bool)
    base_path = get("BASE_PATH", 'a path like "/api/auth"', is_path)
    rules = each("RULES", "a list of rules", _read_entry, "E006")
    headers = each("IP_HEADERS", "a list of header names", _read_header)
    proxies = each("TRUSTED_PROXIES", "a list of addresses or networks", _read_network)
    return GuardOptions(
        enabled=not settings.DEBUG if enabled is None else enabled,
        is_set=enabled is not None,
        rules=RuleSet(_read_default_rule(section), tuple(rules), base_path),
        visitors=Visitors(
            addresses=ClientAddresses(
                tuple(headers),
                tuple(proxies),
                get("IPV6_SUBNET", "an int from 0 to 128", is_int(0, 128)),
            ),
            track_ip=get("TRACK_IP", "True or False", is_bool),
            missing_ip=get("MISSING_IP", either(MISSING_IP), lambda value: value in MISSING_IP),
            secret=force_str(settings.SECRET_KEY),
        ),
        on_error=get("ON_ERROR", either(ON_ERROR), lambda value: value in ON_ERROR),
        allow=_read_access(section, "ALLOW"),
        deny=_read_access(section, "DENY"),
        login=_read_login(section.within("LOGIN", LOGIN_DEFAULTS)),
    )


def _read_access(section: Section, name: str) -> Access:
    value = section.raw.get(name)
    if isinstance(value, str) or callable(value):
        function = None
        with section.noting(name):
            function = read_function(value, 1, ACCESS_HINT)
        return Access(function=function)
    return Access(tuple(section.each(name, "a list of networks or a function", _read_network)))


def _read_login(section: Section) -> LoginRules:
    found: dict[str, tuple[RateLimitRule, ...]] = {name.lower(): () for name in LOGIN_RATES}
    for name in LOGIN_RATES:
        value = section.raw.get(name, section.defaults[name])
        with section.noting(name):
            rules = () if value is None else _read_rates(value, as_written=True)
            if name != "ADDRESS" and any(rule.capacity > MAX_LOG for rule in rules):
                # A bucket lists its attempts under way one by one, so the list needs a bound.
                raise Wrong(f"must be at most {MAX_LOG} attempts", RATE_HINT)
            found[name.lower()] = rules
    is_age = is_none_or_int(1, MAX_COOKIE_AGE)
    age = section.get("DEVICE_COOKIE", "an int of seconds above 0, or None", is_age)
    names = tuple(section.each("NAMES", "a list of fields of the user model", _read_field))
    return LoginRules(**found, device_age=age, names=names, is_set=bool(section.raw))


def _read_field(value: Any) -> str:
    if not isinstance(value, str) or not value.isidentifier() or "__" in value:
        raise Wrong(f"must be the name of a field, not {shown(value)}", 'Like "email".')
    return value


def _read_default_rule(section: Section) -> RateLimitRule:
    given = {name: section.raw.get(name, section.defaults[name]) for name in ("WINDOW", "MAX")}
    for name, value in given.items():
        # Each of the two is checked with the other's default, so that both can be reported.
        try:
            read_rule(**{**RULE_DEFAULT, name.lower(): value})
        except Wrong as wrong:
            hint = f"Leave it out for the default, {section.defaults[name]}."
            section.problem("E003", name, wrong.message.removeprefix(f"{name.lower()} "), hint)
            given[name] = section.defaults[name]
    return RateLimitRule(given["WINDOW"], given["MAX"])


def read_rule(window: Any, max: Any, **options: Any) -> RateLimitRule:
    """A rule that a store can apply; one that has an ``escalate`` is a lockout."""
    if "escalate" in options:
        options.setdefault("algorithm", "lockout")
    try:
        (rule,) = to_rules(RateLimitRule(window, max, **options))
    except (TypeError, InvalidConfig) as error:
        raise Wrong(str(error).removeprefix("rate limit "), RULE_HINT) from None
    return rule


def _read_rates(
    value: Any, *, as_written: bool = False, depth: int = 0
) -> tuple[RateLimitRule, ...]:
    """Text, a dictionary of a rule's arguments, or a list of these."""
    if isinstance(value, list | tuple) and value:
        if depth > MAX_DEPTH:
            raise Wrong("has lists in lists", RATE_HINT)
        found = [_read_rates(item, as_written=as_written, depth=depth + 1) for item in value]
        value = [rule for rules in found for rule in rules]
    if isinstance(value, dict):
        for name in value:
            if name not in COUNTS:
                raise Wrong(f"has the unknown key {quote(name)}", did_you_mean(name, COUNTS))
        if not {"window", "max"} <= value.keys():
            raise Wrong('must have "window" and "max"', RATE_HINT)
        try:
            value = read_rule(**value)
        except Wrong as wrong:
            raise Wrong(wrong.message, RATE_HINT) from None
    try:
        return to_rules(value, as_written=as_written)
    except (TypeError, InvalidConfig) as error:
        raise Wrong(f"cannot be read: {error}", RATE_HINT) from None


def _read_entry(raw: Any) -> RuleEntry:
    if isinstance(raw, str) or callable(raw):
        return RuleEntry(Selector(), read_function(raw, 2, FUNCTION_HINT))
    if not isinstance(raw, dict):
        raise Wrong("must be a dictionary or the dotted path of a function", RULE_HINT)
    for name in raw:
        if name not in RULE_KEYS:
            raise Wrong(f"has the unknown key {quote(name)}", did_you_mean(name, RULE_KEYS))
    on_error = raw.get("on_error")
    if on_error is not None and on_error not in ON_ERROR:
        raise Wrong(f'must have {either(ON_ERROR)} as its "on_error"', RULE_HINT)
    return RuleEntry(_read_selector(raw), _read_outcome(raw), on_error)


def _read_selector(raw: dict[str, Any]) -> Selector:
    named = [name for name in SELECTORS if name in raw]
    if len(named) != 1:
        raise Wrong(f"must have exactly one of {either(SELECTORS)}", RULE_HINT)
    by, value = named[0], raw[named[0]]
    if not isinstance(value, str) or not value:
        raise Wrong(f"must have text as its {quote(by)}, not {shown(value)}", RULE_HINT)
    if by == "path":
        if not value.startswith(("/", "*")):
            raise Wrong(f"can match no path with {shown(value)}", 'Begin it with "/" or "*".')
        if value.count("*") > 1 or re.search(r"[?#<>{}\s]|/:|%[0-9A-Fa-f]{2}", value):
            hint = 'It is the decoded path, with one "*" at most; for parameters, use "route".'
            raise Wrong(f"can match no path with {shown(value)}", hint)
        value = value.rstrip("/") or "/"
    if by == "route":
        value = value.removeprefix("/")
    methods = raw.get("methods")
    if methods is not None:
        is_list = isinstance(methods, list | tuple | set | frozenset)
        if not is_list or not methods or not all(isinstance(name, str) for name in methods):
            raise Wrong(
                f'must have a list as its "methods", not {shown(methods)}', 'Like ["POST"].'
            )
        methods = frozenset(name.upper() for name in methods)
        for name in methods - set(HTTPMethod.__members__):
            raise Wrong(
                f"has the unknown method {quote(name)}",
                did_you_mean(name, HTTPMethod.__members__),
            )
    return Selector(by, value, methods)


def _read_outcome(raw: dict[str, Any]) -> Any:
    given = {name for name in OUTCOMES if name in raw}
    if {"window", "max"} <= given <= set(COUNTS):
        return (read_rule(**{name: raw[name] for name in given}),)
    if given == {"rate"}:
        return _read_rates(raw["rate"])
    if given == {"disabled"} and raw["disabled"] is True:
        return None
    if given == {"rule"}:
        return read_function(raw["rule"], 2, FUNCTION_HINT)
    message = 'must have "window" and "max", or "rate", or "disabled": True, or "rule"'
    raise Wrong(message, RULE_HINT)


def _read_header(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", value):
        raise Wrong(f"must be the name of a header, not {shown(value)}", 'Like "X-Forwarded-For".')
    name = value.upper().replace("-", "_")
    if name == "REMOTE_ADDR":
        # A client could send this header itself.
        raise Wrong("must not be REMOTE_ADDR, which is no header", "Leave IP_HEADERS out.")
    if name == "FORWARDED":
        hint = 'Have the proxy write "X-Forwarded-For" or "X-Real-IP".'
        raise Wrong("must not be the header Forwarded, whose syntax is not read", hint)
    return name if name.startswith("HTTP_") else f"HTTP_{name}"


def _read_network(value: Any) -> Network:
    try:
        # IP-12: plain addresses and prefix lengths; ipaddress would also accept other spellings.
        if isinstance(value, str) and re.fullmatch(r"[0-9A-Fa-f.:]+(/[0-9]+)?", value):
            network = ip_network(value, strict=False)
            mapped = network.network_address
            if isinstance(mapped, IPv6Address) and mapped.ipv4_mapped and network.prefixlen >= 96:
                return ip_network((mapped.ipv4_mapped, network.prefixlen - 96))
            return network
    except ValueError:
        pass
    raise Wrong(f"must be an address or a network, not {shown(value)}", 'Like "10.0.0.0/8".')
