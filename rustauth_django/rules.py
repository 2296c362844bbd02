"""Which limit applies to a request, and under which bucket it counts.

First match wins: the site's own rules, then RustAuth's strict rules under the base path
(MW-05, MW-06), then the same strictness for the login, sign-up and password views of
Django and django-allauth, then the default (MW-04).

A bucket is the normalised path, as RustAuth's is (KEY-02, PATH-05), but a route with
parameters counts as its template: varying the parameter opens no new bucket
(QUIRK-21). Where one path may meet several rules, all but the path's own carry their
name in the bucket, so that no two rules share a counter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from django.conf.urls.i18n import is_language_prefix_patterns_used
from django.http import HttpRequest
from django.urls import ResolverMatch, get_urlconf
from django.utils.translation import get_language_from_path

from .paths import is_under, literal_route, matches, normalize_path
from .rates import RateLimitRule

RuleFunction: TypeAlias = Callable[[HttpRequest, RateLimitRule], RateLimitRule | None]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

STRICT_SIGN_IN = RateLimitRule(window=10, max=3)
STRICT_RESET = RateLimitRule(window=60, max=3)
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

# By URL name, whatever the namespace: an admin site may be called anything and
# django.contrib.auth.urls may be included under any name.
SIGN_IN_VIEWS = frozenset(
    {
        "login",
        "password_change",
        "password_reset_confirm",
        "account_login",
        "account_signup",
        "account_change_password",
        "account_set_password",
        "account_reauthenticate",
        "account_reset_password_from_key",
        "account_confirm_login_code",
        "account_confirm_password_reset_code",
        "mfa_authenticate",
        "mfa_reauthenticate",
    }
)
RESET_VIEWS = frozenset(
    {
        "password_reset",
        "admin_password_reset",
        "account_reset_password",
        "account_request_login_code",
    }
)


@dataclass(frozen=True, slots=True)
class Limit:
    """The outcome: ``name`` for people and headers, the rule, and the bucket's path part."""

    name: str
    rule: RateLimitRule
    bucket: str


@dataclass(frozen=True, slots=True)
class Target:
    """What rules look at.

    ``path`` is concrete and normalised, ``full_path`` the same with the base path left
    on, ``bucket`` is what counts.
    """

    path: str
    full_path: str
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
        is_literal = literal_route(route) == path
        return cls(
            path=normalize_path(concrete, base_path),
            full_path=normalize_path(concrete, "/"),
            bucket=normalize_path(path if is_literal else f"/{route}", base_path),
            is_literal=is_literal,
            is_auth_path=is_under(concrete, base_path),
            method=(request.method or "GET").upper(),
            match=match,
        )


def _without_language(path: str, route: str) -> tuple[str, str]:
    # Under i18n_patterns() the route says the language that is active: without this,
    # each language would be a bucket of its own.
    language, slash, rest = path.removeprefix("/").partition("/")
    if (
        slash
        and route.startswith(f"{language}/")
        and is_language_prefix_patterns_used(get_urlconf())[0]  # type: ignore[arg-type]  # None too
        and get_language_from_path(path)
    ):
        return f"/{rest}", route.removeprefix(f"{language}/")
    return path, route


@dataclass(frozen=True, slots=True)
class Selector:
    """Which requests an entry of ``RULES`` is about."""

    by: Literal["path", "view_name", "route"] | None = None
    value: str = ""
    methods: frozenset[str] | None = None

    def __str__(self) -> str:
        methods = ",".join(sorted(self.methods)) if self.methods else ""
        return f"{self.by or 'any'}:{self.value}{' ' if methods else ''}{methods}"

    def selects(self, target: Target) -> bool:
        if self.methods is not None and target.method not in self.methods:
            return False
        match self.by:
            case "path":
                return any(matches(self.value, p) for p in (target.path, target.full_path))
            case "view_name":
                return target.match.view_name == self.value
            case "route":
                return target.match.route == self.value
        return True

    def owns(self, target: Target) -> bool:
        """Is the path itself, with any method, this selector's? Then so is its bare bucket."""
        is_plain = self.by == "path" and self.methods is None and target.is_literal
        return is_plain and matches(self.value, target.path)


@dataclass(frozen=True, slots=True)
class RuleEntry:
    """An entry of ``RULES``: a rule, a function that says which, or None for no limit."""

    selector: Selector
    rule: RateLimitRule | RuleFunction | None


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All the rules of a site."""

    default: RateLimitRule
    entries: tuple[RuleEntry, ...] = ()
    base_path: str = "/api/auth"

    def resolve(self, request: HttpRequest) -> Limit | None:
        """The limit for a request that has been resolved to a view; None for none."""
        target = Target.of(request, self.base_path)
        for entry in self.entries:
            if entry.selector.selects(target):
                return self._apply(entry, target, request)
        return self._built_in(target)

    def _apply(self, entry: RuleEntry, target: Target, request: HttpRequest) -> Limit | None:
        name = str(entry.selector)
        if entry.rule is None:
            return None
        if isinstance(entry.rule, RateLimitRule):
            bucket = target.bucket if entry.selector.owns(target) else f"{target.bucket}|{name}"
            return Limit(name, entry.rule, bucket)
        current = self._built_in(target)
        rule = entry.rule(request, current.rule)
        if rule is None:
            return None
        if rule == current.rule:
            return current
        # What a function returns may differ from call to call, each a rule of its own.
        name = f"{name} {rule.max}/{rule.window_ms}ms"
        return Limit(name, rule, f"{target.bucket}|{name}")

    def _built_in(self, target: Target) -> Limit:
        strict = strict_path_limit(target.path)
        if strict and target.is_auth_path:
            bucket = target.bucket if target.is_literal else f"{target.bucket}|{strict[0]}"
            return Limit(*strict, bucket)
        if target.method not in SAFE_METHODS:
            view = strict_view_limit(target.match.url_name or "")
            if view:
                return Limit(*view, f"{target.bucket}|{view[0]}")
        # Outside of the base path, "/sign-in" must not count where the strict rule's
        # "/sign-in" below it counts.
        bucket = f"{target.bucket}|default" if strict else target.bucket
        return Limit("default", self.default, bucket)


def strict_path_limit(path: str) -> tuple[str, RateLimitRule] | None:
    """RustAuth's strict rules for a path below the base path (MW-05, MW-06)."""
    if path.startswith(SIGN_IN_PREFIXES):
        return "sign-in", STRICT_SIGN_IN
    if path in RESET_PATHS or path.startswith(RESET_PREFIX):
        return "password-reset", STRICT_RESET
    return None


def strict_view_limit(url_name: str) -> tuple[str, RateLimitRule] | None:
    """The same strictness for the views that Django and django-allauth ship."""
    if url_name in SIGN_IN_VIEWS:
        return "sign-in", STRICT_SIGN_IN
    if url_name in RESET_VIEWS:
        return "password-reset", STRICT_RESET
    return None
