"""Finding the limit for a request, and the bucket that it counts in.

First match wins: the site's own rules, then RustAuth's strict rules under the base path
(MW-05, MW-06), then the same strictness for the login, sign-up and password views of
Django and django-allauth, then the default (MW-04).

A bucket is named by the normalised path, as in RustAuth (KEY-02, PATH-05). A route with parameters
is named by its template, so that varying the parameter opens no new bucket (QUIRK-21). Where
several rules may apply to one path, the bucket of each one but the path's own also has the rule's
name, so that no two rules share a counter.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from django.conf.urls.i18n import is_language_prefix_patterns_used
from django.http import HttpRequest
from django.urls import ResolverMatch, get_resolver, get_urlconf
from django.utils.translation import get_language_from_path

from ..engine.plans import Call, Plan
from ..exceptions import InvalidConfig
from .paths import is_literal, is_under, matches, normalize_path
from .rates import OnError, RateLimitRule, to_rules

# (request, current_rule) -> rates | None, or a coroutine of that.
RuleFunction: TypeAlias = Callable[[HttpRequest, RateLimitRule], Any]

SelectorKind: TypeAlias = Literal["path", "view_name", "route"]

# The limits of so many paths are remembered, if a path is no longer than this.
MAX_KNOWN = 4096
MAX_KNOWN_PATH = 256

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

STRICT_SIGN_IN = RateLimitRule(window=10, max=3)
STRICT_RESET = RateLimitRule(window=60, max=3)
# The strict rules, by the names that headers and buckets have for them.
STRICT = {"sign-in": STRICT_SIGN_IN, "password-reset": STRICT_RESET}
SIGN_IN_PREFIXES = ("/sign-in", "/sign-up", "/change-password", "/change-email")
RESET_PATHS = frozenset(
    {
        "/request-password-reset",
        "/send-verification-email",
        "/email-otp/send-verification-otp",
        "/email-otp/request-password-reset",
    }
)
RESET_PREFIX = "/forget-password"

# Views of which only failures count, since many people may sign in from one office address.
LOGIN_VIEWS = frozenset({"login", "account_login"})
# By URL name in any namespace: an admin site and django.contrib.auth.urls may be included under any
# namespace.
SIGN_IN_VIEWS = frozenset(
    {
        "login",
        "password_change",
        "password_reset_confirm",
        "magic_link",
        "account_login",
        "account_signup",
        "account_change_password",
        "account_set_password",
        "account_reauthenticate",
        "account_reset_password_from_key",
        "account_confirm_login_code",
        "account_confirm_password_reset_code",
        "account_complete_password_reset",
        "mfa_authenticate",
        "mfa_reauthenticate",
    }
)
RESET_VIEWS = frozenset(
    {
        "password_reset",
        "send_magic_link",
        "admin_password_reset",
        "account_reset_password",
        "account_request_login_code",
    }
)


@dataclass(frozen=True, slots=True)
class Limit:
    """The limit for a request: its ``name`` for people and headers, its rules, and the path part of
    its bucket.
    """

    name: str
    rules: tuple[RateLimitRule, ...]
    bucket: str
    on_error: OnError | None = None
    #: Why it applies, for people.
    why: str = ""
    #: Does a request count only if its login fails?
    on_failure: bool = False

    def as_written(self) -> "Limit":
        """The same limit with the algorithms that its rules have outside of RustAuth's wire."""
        written = {rule.name: rule for rule in [rule.as_written() for rule in self.rules]}
        return replace(self, rules=tuple(written.values()))


@dataclass(frozen=True, slots=True)
class Target:
    """The properties of a request that rules are matched against.

    ``path`` is concrete and normalised, without the base path and without a language; ``spellings``
    are all forms of it that a site's rule may be written in. ``bucket`` names the counter.
    """

    path: str
    spellings: tuple[str, ...]
    route: str
    bucket: str
    is_literal: bool
    is_auth_path: bool
    method: str
    match: ResolverMatch

    @classmethod
    def of(cls, request: HttpRequest, base_path: str) -> "Target":
        """The target of a request that has been resolved to a view."""
        match = request.resolver_match
        assert match is not None
        concrete = request.path_info or "/"
        path, route = _without_language(concrete, match.route or "")
        literal = is_literal(route, path)
        normal = normalize_path(path, base_path)
        return cls(
            path=normal,
            spellings=(normal, normalize_path(path, "/"), normalize_path(concrete, "/")),
            route=route,
            bucket=normal if literal else normalize_path(f"/{route}", base_path),
            is_literal=literal,
            is_auth_path=is_under(path, base_path),
            method=(request.method or "GET").upper(),
            match=match,
        )


def _without_language(path: str, route: str) -> tuple[str, str]:
    # Under i18n_patterns() the route contains the active language; it is removed, so that all
    # languages share a bucket.
    language, slash, rest = path.removeprefix("/").partition("/")
    if (
        slash
        and route.startswith(f"{language}/")
        and has_languages()
        and get_language_from_path(path)
    ):
        return f"/{rest}", route.removeprefix(f"{language}/")
    return path, route


def has_languages() -> bool:
    """Does the URLconf in force have ``i18n_patterns()``?"""
    # The URLconf is passed by name: for None, Django would cache the answer even if ROOT_URLCONF
    # changes.
    urlconf: Any = get_resolver(get_urlconf()).urlconf_name
    return is_language_prefix_patterns_used(urlconf)[0]


@dataclass(frozen=True, slots=True)
class Selector:
    """The requests that an entry of ``RULES`` applies to."""

    by: SelectorKind | None = None
    value: str = ""
    methods: frozenset[str] | None = None

    def __str__(self) -> str:
        what = f"{self.by}:{self.value}" if self.by else ""
        return " ".join([what, *sorted(self.methods or ())])

    def selects(self, target: Target) -> bool:
        if self.methods is not None and target.method not in self.methods:
            return False
        match self.by:
            case "path":
                return any(matches(self.value, path) for path in target.spellings)
            case "view_name":
                return target.match.view_name == self.value
            case "route":
                return self.value in (target.route, target.match.route)
        return True

    def owns(self, target: Target) -> bool:
        """Does this selector match the path itself, with any method? Then its bucket has no name
        but the path.
        """
        is_plain = self.by == "path" and self.methods is None and target.is_literal
        return is_plain and matches(self.value, target.path)


@dataclass(frozen=True, slots=True)
class RuleEntry:
    """An entry of ``RULES``: rules, a function that returns some, or None for no limit."""

    selector: Selector
    rule: tuple[RateLimitRule, ...] | RuleFunction | None
    on_error: OnError | None = None


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All the rules of a site."""

    default: RateLimitRule
    entries: tuple[RuleEntry, ...]
    base_path: str
    #: Limits that were found before, by the properties that rules are matched against.
    _known: dict[tuple[str | None, ...], Limit | None] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def names(self, method: str) -> bool:
        """Does an entry name this method?"""
        return any(method in (entry.selector.methods or ()) for entry in self.entries)

    def resolve(self, request: HttpRequest) -> Plan[Call, Limit | None]:
        """The limit for a request that has been resolved to a view; None for none."""
        match = request.resolver_match
        assert match is not None
        looked_at = request.path_info, match.route, match.view_name, request.method
        if looked_at in self._known and not hasattr(request, "urlconf"):
            return self._known[looked_at]
        target = Target.of(request, self.base_path)
        limit = yield from self._first(target, request, self.entries)
        # A rule without an algorithm is on RustAuth's wire only below the base path.
        if limit and not target.is_auth_path:
            limit = limit.as_written()
        if self._may_keep(request):
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[looked_at] = limit
        return limit

    def _may_keep(self, request: HttpRequest) -> bool:
        """Does every request to this path have this limit, whatever its other properties?"""
        return not (
            len(request.path_info) > MAX_KNOWN_PATH
            or hasattr(request, "urlconf")
            or any(callable(entry.rule) for entry in self.entries)
            or has_languages()
        )

    def _first(
        self, target: Target, request: HttpRequest, entries: tuple[RuleEntry, ...]
    ) -> Plan[Call, Limit | None]:
        for index, entry in enumerate(entries):
            if entry.selector.selects(target):
                if callable(entry.rule):
                    rest = yield from self._first(target, request, entries[index + 1 :])
                    return (yield from self._ask(entry, entry.rule, target, request, rest))
                if entry.rule is None:
                    return None
                name = str(entry.selector)
                owns = entry.selector.owns(target)
                bucket = target.bucket if owns else f"{target.bucket}|{name}"
                why = "an entry of RULES"
                return Limit(name, entry.rule, bucket, entry.on_error, why)
        return self.built_in(target)

    def _ask(
        self,
        entry: RuleEntry,
        function: RuleFunction,
        target: Target,
        request: HttpRequest,
        rest: Limit | None,
    ) -> Plan[Call, Limit | None]:
        """MW-09: the function gets the rule that would apply otherwise, and its answer is final."""
        current = rest or self.built_in(target)
        answer = yield Call(function, (request, current.rules[0]))
        name = " ".join([str(entry.selector), getattr(function, "__name__", "function")]).strip()
        if answer is None:
            return None
        try:
            rules = to_rules(answer)
        except TypeError as error:
            raise TypeError(
                f"the rule function {name} must return rates or None: {error}"
            ) from None
        except InvalidConfig as error:
            raise InvalidConfig(f"the rule function {name} returned {answer}: {error}") from None
        if rest and rules == rest.rules[:1]:
            return rest
        # A function may return another rule at each call, so each rule has a name of its own.
        name = " ".join([name, *(f"{rule.max}/{rule.window_ms}ms" for rule in rules)])
        why = "a function among RULES"
        return Limit(name, rules, f"{target.bucket}|{name}", entry.on_error, why)

    def built_in(self, target: Target) -> Limit:
        """The limit for a request that no rule of the site's matches."""
        strict = strict_path_limit(target.path)
        if strict and target.is_auth_path:
            bucket = target.bucket if target.is_literal else f"{target.bucket}|{strict[0]}"
            return Limit(*strict, bucket, why="a strict path of RustAuth's")
        if target.method not in SAFE_METHODS:
            view = strict_view_limit(target.match.url_name or "")
            if view:
                bucket = f"{target.bucket}|{view[0]}"
                why = "a sign-in or password view, by its name"
                is_login = target.match.url_name in LOGIN_VIEWS
                return Limit(*view, bucket, why=why, on_failure=is_login)
        # Outside of the base path, "/sign-in" must not share the bucket of the strict rule's
        # "/sign-in" below it.
        bucket = f"{target.bucket}|default" if strict else target.bucket
        return Limit("default", (self.default,), bucket, why="WINDOW and MAX")


def strict_path_limit(path: str) -> tuple[str, tuple[RateLimitRule]] | None:
    """RustAuth's strict rules for a path below the base path (MW-05, MW-06)."""
    if path.startswith(SIGN_IN_PREFIXES):
        return _strict("sign-in")
    if path in RESET_PATHS or path.startswith(RESET_PREFIX):
        return _strict("password-reset")
    return None


def strict_view_limit(url_name: str) -> tuple[str, tuple[RateLimitRule]] | None:
    """The same strictness for the views that Django and django-allauth ship."""
    if url_name in SIGN_IN_VIEWS:
        return _strict("sign-in")
    if url_name in RESET_VIEWS:
        return _strict("password-reset")
    return None


def _strict(name: str) -> tuple[str, tuple[RateLimitRule]]:
    return name, (STRICT[name],)
