"""``settings.RUSTAUTH``, read in this one place into one frozen value.

The whole dictionary is read even if the first line of it is wrong, so that
``manage.py check`` can tell of everything at once.
"""

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from threading import Lock
from typing import Any, NamedTuple

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.module_loading import import_string

from .client_ip import ClientAddresses, Network
from .exceptions import InvalidConfig
from .guard import GuardOptions
from .keyspace import DEFAULT_PREFIX, DEFAULT_SCAN_COUNT
from .rates import RateLimitRule
from .rules import RuleEntry, RuleSet, Selector

DEFAULTS: dict[str, Any] = {
    "URL": None,
    "CACHE": None,
    "KEY_PREFIX": DEFAULT_PREFIX,
    "SCAN_COUNT": DEFAULT_SCAN_COUNT,
    "CLIENT_OPTIONS": {},
    "RATE_LIMIT": {},
}
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
}
SELECTORS = ("path", "view_name", "route")
RULE_KEYS = (*SELECTORS, "methods", "window", "max", "disabled", "rule")
MISSING_IP = ("deny", "shared-bucket", "allow")


class Problem(NamedTuple):
    """Something wrong in the settings: where, what, and what to write instead."""

    id: str
    path: str
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        hint = f" {self.hint}" if self.hint else ""
        return f"{self.path} {self.message}.{hint}"


@dataclass(frozen=True, slots=True)
class Settings:
    """``settings.RUSTAUTH``, checked and complete."""

    url: str = field(repr=False)
    cache: str | None
    key_prefix: str
    scan_count: int
    client_options: dict[str, Any] = field(repr=False)
    rate_limit: GuardOptions


_current: Settings | None = None
_lock = Lock()


def get_settings() -> Settings:
    """The settings in force. Raises ``InvalidConfig`` with everything that is wrong."""
    global _current
    with _lock:
        if _current is None:
            value, problems = read()
            if problems:
                raise InvalidConfig("\n".join(map(str, problems)))
            _current = value
        return _current


@receiver(setting_changed)
def forget_settings(*, setting: str, **kwargs: Any) -> None:
    """Read anew after ``override_settings``."""
    global _current
    if setting in ("RUSTAUTH", "DEBUG"):
        with _lock:
            _current = None


def middleware_paths() -> list[str]:
    """``settings.MIDDLEWARE``."""
    return list(settings.MIDDLEWARE)


def read() -> tuple[Settings, list[Problem]]:
    """The settings and what is wrong with them; in place of each wrong one, its default."""
    raw = getattr(settings, "RUSTAUTH", {})
    if not isinstance(raw, dict):
        problem = Problem("E001", "RUSTAUTH", "must be a dictionary")
        return _build(Section({}, DEFAULTS, "RUSTAUTH", [problem]))
    return _build(Section(raw, DEFAULTS, "RUSTAUTH", []))


def _build(top: "Section") -> tuple[Settings, list[Problem]]:
    if top.raw.get("URL") is not None and top.raw.get("CACHE") is not None:
        top.problem("E004", "CACHE", 'and RUSTAUTH["URL"] are both set', "Keep one of them.")
    raw_limits = top.get("RATE_LIMIT", "a dictionary", lambda v: isinstance(v, dict))
    limits = Section(raw_limits, RATE_LIMIT_DEFAULTS, top.at("RATE_LIMIT"), top.problems)
    result = Settings(
        url=top.get("URL", "a URL", _is_text) or "memory://",
        cache=top.get("CACHE", "the name of a cache", _is_text),
        key_prefix=top.get("KEY_PREFIX", "text that is not empty", _is_text),
        scan_count=top.get("SCAN_COUNT", "an int from 1 to 4294967295", _is_int(1, 2**32 - 1)),
        client_options=top.get("CLIENT_OPTIONS", "a dictionary of client options", _is_options),
        rate_limit=_read_rate_limit(limits),
    )
    if result.cache and result.client_options:
        top.problem(
            "E004",
            "CLIENT_OPTIONS",
            'cannot change the connections of RUSTAUTH["CACHE"]',
            "Set the options of that cache in CACHES.",
        )
    return result, top.problems


def _read_rate_limit(section: "Section") -> GuardOptions:
    enabled = section.get("ENABLED", "True, False or None", lambda v: v in (True, False, None))
    window, limit = section.get("WINDOW", "seconds above zero"), section.get("MAX", "an int")
    default = section.rule(window, limit, "WINDOW", "MAX")
    base_path = section.get("BASE_PATH", 'a path like "/api/auth"', lambda v: isinstance(v, str))
    entries = section.each("RULES", "a list of rules", _read_entry)
    return GuardOptions(
        enabled=not settings.DEBUG if enabled is None else bool(enabled),
        rules=RuleSet(default=default, entries=tuple(entries), base_path=base_path),
        addresses=ClientAddresses(
            headers=tuple(section.each("IP_HEADERS", "a list of header names", _read_header)),
            trusted_proxies=tuple(
                section.each("TRUSTED_PROXIES", "a list of addresses or networks", _read_network)
            ),
            ipv6_subnet=section.get("IPV6_SUBNET", "an int from 0 to 128", _is_int(0, 128)),
        ),
        track_ip=section.get("TRACK_IP", "True or False", lambda v: isinstance(v, bool)),
        missing_ip=section.get("MISSING_IP", _one_of(MISSING_IP), lambda v: v in MISSING_IP),
    )


class Section:
    """One dictionary of settings and the problems found in it."""

    def __init__(
        self, raw: dict[str, Any], defaults: dict[str, Any], path: str, problems: list[Problem]
    ) -> None:
        self.raw, self.defaults, self.path, self.problems = raw, defaults, path, problems
        for name in raw:
            if name not in defaults:
                self.problem("E002", name, "is not a setting", did_you_mean(name, defaults))

    def at(self, name: object) -> str:
        """The path of one setting, as one would write it."""
        return f"{self.path}[{quote(name)}]"

    def problem(self, id: str, name: object, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(id, self.at(name), message, hint))

    def get(
        self, name: str, expected: str, is_valid: Callable[[Any], bool] = lambda value: True
    ) -> Any:
        """A setting, or its default if it is missing or is not what is ``expected``."""
        value = self.raw.get(name, self.defaults[name])
        if value == self.defaults[name] or is_valid(value):
            return value
        shown = "" if name in ("URL", "CLIENT_OPTIONS") else f", not {value!r}"
        self.problem("E003", name, f"must be {expected}{shown}")
        return self.defaults[name]

    def each(self, name: str, expected: str, read_item: Callable[[Any], Any]) -> Iterator[Any]:
        """The readable items of a setting that is a list."""
        value = self.get(name, expected, lambda v: isinstance(v, list | tuple))
        for index, item in enumerate(value):
            try:
                yield read_item(item)
            except InvalidConfig as error:
                id = "E006" if name == "RULES" else "E003"
                where = f"{self.at(name)}[{index}]"
                self.problems.append(Problem(id, where, *error.args))

    def rule(self, window: Any, limit: Any, *names: str) -> RateLimitRule:
        """A rule of these numbers; what is wrong with them is told at the right name."""
        fallback = RateLimitRule(self.defaults["WINDOW"], self.defaults["MAX"])
        try:
            return read_rule(window, limit)
        except InvalidConfig as error:
            wrong = names[0] if "window" in str(error) else names[1]
            self.problem("E003", wrong, str(error).removeprefix(f"{wrong.lower()} "))
            return fallback


def read_rule(window: Any, limit: Any) -> RateLimitRule:
    """A rule that a store can apply; raises ``InvalidConfig`` only."""
    try:
        rule = RateLimitRule(window, limit)
        rule.validate()
    except TypeError as error:
        raise InvalidConfig(str(error)) from None
    except InvalidConfig as error:
        raise InvalidConfig(str(error).removeprefix("rate limit ")) from None
    return rule


def _read_entry(raw: Any) -> RuleEntry:
    if isinstance(raw, str) or callable(raw):
        return RuleEntry(Selector(), _read_function(raw))
    if not isinstance(raw, dict):
        raise InvalidConfig("must be a dictionary or the dotted path of a function")
    for name in raw:
        if name not in RULE_KEYS:
            raise InvalidConfig(f"has the unknown key {quote(name)}", did_you_mean(name, RULE_KEYS))
    return RuleEntry(_read_selector(raw), _read_outcome(raw))


def _read_selector(raw: dict[str, Any]) -> Selector:
    named = [name for name in SELECTORS if name in raw]
    if len(named) != 1:
        raise InvalidConfig(f"must have one of {_one_of(SELECTORS)}")
    by, value = named[0], raw[named[0]]
    if not isinstance(value, str) or not value:
        raise InvalidConfig(f"must have text as its {by!r}, not {value!r}")
    if by == "path":
        if not value.startswith(("/", "*")):
            raise InvalidConfig(f'can match no path: {value!r} does not start with "/" or "*"')
        value = value.rstrip("/") or "/"
    methods = raw.get("methods")
    if methods is not None:
        if not isinstance(methods, list | tuple | set | frozenset) or not methods:
            raise InvalidConfig("must have a list like [\"POST\"] as its 'methods'")
        if not all(isinstance(method, str) for method in methods):
            raise InvalidConfig("must have names of HTTP methods as its 'methods'")
        methods = frozenset(method.upper() for method in methods)
    return Selector(by, value, methods)  # type: ignore[arg-type]  # one of SELECTORS


def _read_outcome(raw: dict[str, Any]) -> Any:
    given = {name for name in ("window", "max", "disabled", "rule") if name in raw}
    if given == {"window", "max"}:
        return read_rule(raw["window"], raw["max"])
    if given == {"disabled"} and raw["disabled"] is True:
        return None
    if given == {"rule"}:
        return _read_function(raw["rule"])
    raise InvalidConfig("must have 'window' and 'max', or 'disabled': True, or 'rule'")


def _read_function(value: Any) -> Callable[..., Any]:
    if isinstance(value, str):
        try:
            value = import_string(value)
        except ImportError as error:
            raise InvalidConfig(f"cannot be imported: {error}") from None
    if not callable(value):
        raise InvalidConfig("must be a function (request, current_rule) or its dotted path")
    function: Callable[..., Any] = value
    return function


def _read_header(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", value):
        raise InvalidConfig(f'must be the name of a header like "X-Forwarded-For", not {value!r}')
    name = value.upper().replace("-", "_")
    return name if name.startswith("HTTP_") else f"HTTP_{name}"


def _read_network(value: Any) -> Network:
    try:
        # IP-12: plain addresses and prefix lengths, nothing that ipaddress guesses at.
        if isinstance(value, str) and re.fullmatch(r"[0-9A-Fa-f.:]+(/[0-9]+)?", value):
            return ip_network(value, strict=False)
    except ValueError:
        pass
    raise InvalidConfig(f'must be an address or a network like "10.0.0.0/8", not {value!r}')


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_options(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


def _is_int(low: int, high: int) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high


def _one_of(names: tuple[str, ...]) -> str:
    return f"{', '.join(map(quote, names[:-1]))} or {quote(names[-1])}"


def quote(name: object) -> str:
    """Text as settings files have it, in double quotes."""
    return f'"{name}"' if isinstance(name, str) else repr(name)


def did_you_mean(name: Any, known: Any) -> str | None:
    """A hint for a name that is nearly one of ``known``."""
    close = difflib.get_close_matches(str(name).upper(), [str(k).upper() for k in known], n=1)
    found = [k for k in known if close and k.upper() == close[0]]
    return f"Did you mean {quote(found[0])}?" if found else None
