"""``RUSTAUTH["PEERS"]``: other stacks that sign users in, and how Django knows of it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from ..engine.keyspace import DEFAULT_PREFIX
from .sections import Section, Wrong, did_you_mean, either, quote, shown
from .values import is_text, read_function

Stack: TypeAlias = Literal["better-auth", "rustauth"]
OnPeerError: TypeAlias = Literal["anonymous", "deny"]

STACKS: tuple[str, ...] = get_args(Stack)
ON_PEER_ERROR: tuple[str, ...] = get_args(OnPeerError)
COMMON: dict[str, Any] = {"STACK": None, "VIA": None, "USER": "pk", "ON_ERROR": "anonymous"}
#: The settings of a peer, by its ``VIA``.
PEER_DEFAULTS: dict[str, dict[str, Any]] = {
    "jwt": {
        **COMMON,
        "ISSUER": None,
        "AUDIENCE": None,
        "JWKS_URL": None,
        "CACHE_COOKIE": None,
    },
    "redis": {
        **COMMON,
        "SECRET": None,
        "COOKIE": None,
        "KEY_PREFIX": None,
        "URL": None,
        "SECURE": None,
    },
    "database": {
        **COMMON,
        "SECRET": None,
        "COOKIE": None,
        "SECURE": None,
        "ALIAS": "default",
        "TABLES": None,
    },
}
# What is read of each table, by Better Auth's names of fields.
SESSION_FIELDS = ("id", "token", "userId", "expiresAt", "createdAt", "ipAddress", "userAgent")
USER_FIELDS = ("id", "banned", "banExpires")
TABLES_HINT = 'Like {"session": {"TABLE": "sessions", "userId": "user_id"}, "user": {}}.'
COOKIES = {"better-auth": "better-auth.session_token", "rustauth": "rustauth.session_token"}
PREFIXES = {"better-auth": "better-auth:", "rustauth": DEFAULT_PREFIX}
# Where both stacks have their keys, below the issuer.
JWKS_PATH = "/api/auth/jwks"
USER_HINT = 'Like "pk", "field:email", or a function of the peer session that returns a user.'
PEER_HINT = (
    'For example {"STACK": "better-auth", "VIA": "jwt", "ISSUER": "https://app.example.com"}.'
)


@dataclass(frozen=True, slots=True)
class Peer:
    """What all peers have. ``user`` is "pk", "field:" and a name, or a function."""

    name: str
    stack: Stack
    user: str | Callable[[Any], Any]
    on_error: OnPeerError


@dataclass(frozen=True, slots=True)
class JwtPeer(Peer):
    """Users bring a token that the peer has signed."""

    issuer: str
    audience: str
    jwks_url: str
    cache_cookie: str | None


@dataclass(frozen=True, slots=True)
class CookiePeer(Peer):
    """Users bring a cookie, or its value as a bearer token, that is signed with the ``secret``."""

    secret: bytes = field(repr=False)
    cookie: str


@dataclass(frozen=True, slots=True)
class RedisPeer(CookiePeer):
    """The peer's sessions are on a server that Django reads too; ``url`` None is Django's own."""

    key_prefix: str
    url: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Table:
    """The name of a table, and its columns by the fields whose names differ."""

    name: str
    columns: dict[str, str]

    def column(self, field: str) -> str:
        return self.columns.get(field, field)


@dataclass(frozen=True, slots=True)
class DatabasePeer(CookiePeer):
    """The peer's sessions are in tables of the database ``alias``."""

    alias: str
    sessions: Table
    users: Table


def read_peers(
    top: Section, *, secure_cookies: bool, databases: Collection[str]
) -> tuple[Peer, ...]:
    """The peers in their order; the problems of the others are noted."""
    raw = top.get(
        "PEERS", "a dictionary of peers", lambda value: isinstance(value, dict), secret=True
    )
    found = []
    path = top.at("PEERS")
    for name, given in raw.items():
        where = f"{path}[{quote(name)}]"
        if not is_text(name) or not isinstance(given, dict):
            top.problem("E003", "PEERS", f"has {shown(name)}, which is no peer", PEER_HINT)
            continue
        via = given.get("VIA")
        if not isinstance(via, str) or via not in PEER_DEFAULTS:
            problems = Section({}, {}, where, top.problems)
            problems.problem("E003", "VIA", f"must be {either(PEER_DEFAULTS)}", PEER_HINT)
            continue
        count = len(top.problems)
        section = Section(given, PEER_DEFAULTS[via], where, top.problems)
        peer: Peer
        match via:
            case "jwt":
                peer = _read_jwt(name, section)
            case "redis":
                peer = _read_redis(name, section, secure_cookies=secure_cookies)
            case _:
                peer = _read_database(name, section, databases, secure_cookies=secure_cookies)
        if len(top.problems) == count:
            found.append(peer)
    return tuple(found)


def _read_jwt(name: str, section: Section) -> JwtPeer:
    issuer = _required(section, "ISSUER", "the peer's base URL", is_url)
    return JwtPeer(
        *_read_common(name, section),
        issuer=issuer,
        audience=section.get("AUDIENCE", "text", is_text) or issuer,
        jwks_url=section.get("JWKS_URL", "a URL of http or https", is_url, secret=True)
        or issuer.rstrip("/") + JWKS_PATH,
        cache_cookie=section.get("CACHE_COOKIE", "the name of a cookie", is_cookie),
    )


def _read_redis(name: str, section: Section, *, secure_cookies: bool) -> RedisPeer:
    common = _read_common(name, section)
    stack = common[1]
    prefix = section.get("KEY_PREFIX", "text", lambda value: value == "" or is_text(value))
    if prefix == "" and stack == "rustauth":
        section.problem("E003", "KEY_PREFIX", "must not be empty", "RustAuth always has one.")
    return RedisPeer(
        *common,
        *_read_cookie(section, stack, secure_cookies=secure_cookies),
        key_prefix=PREFIXES[stack] if prefix is None else prefix,
        url=section.get("URL", "a URL", is_text, secret=True),
    )


def _read_database(
    name: str, section: Section, databases: Collection[str], *, secure_cookies: bool
) -> DatabasePeer:
    common = _read_common(name, section)
    if common[1] != "better-auth":
        section.problem("E003", "STACK", 'must be "better-auth"', "RustAuth has other tables.")
    tables: dict[str, Any] = {"session": {}, "user": {}}
    with section.noting("TABLES"):
        tables |= _read_tables(section.raw.get("TABLES"))
    names = [table.pop("TABLE", name) for name, table in tables.items()]
    return DatabasePeer(
        *common,
        *_read_cookie(section, "better-auth", secure_cookies=secure_cookies),
        section.get(
            "ALIAS",
            "the name of a database in DATABASES",
            lambda value: is_text(value) and value in databases,
        ),
        *(Table(name, columns) for name, columns in zip(names, tables.values(), strict=True)),
    )


def _read_tables(value: Any) -> dict[str, Any]:
    """The names of tables and columns that differ from Better Auth's own."""
    known = {"session": ("TABLE", *SESSION_FIELDS), "user": ("TABLE", *USER_FIELDS)}
    if not isinstance(value, dict | None):
        raise Wrong("must be a dictionary", TABLES_HINT)
    found: dict[str, Any] = {}
    for table, names in (value or {}).items():
        if table not in known or not isinstance(names, dict):
            raise Wrong(f"has {shown(table)}, which is no table of a session", TABLES_HINT)
        for name, column in names.items():
            if name not in known[table]:
                hint = did_you_mean(name, known[table])
                raise Wrong(f"has {quote(name)}, which is not read", hint)
            if not is_text(column) or '"' in column or "`" in column or "\0" in column:
                raise Wrong(f"has {shown(column)}, which is no name", TABLES_HINT)
        found[table] = dict(names)
    return found


def _read_cookie(section: Section, stack: Stack, *, secure_cookies: bool) -> tuple[bytes, str]:
    """The secret, and the name of the cookie."""
    secret = _required(section, "SECRET", "the peer's secret", is_text)
    cookie = section.get("COOKIE", "the name of a cookie", is_cookie) or COOKIES[stack]
    is_secure = section.get("SECURE", "True or False", lambda value: isinstance(value, bool))
    if is_secure if is_secure is not None else secure_cookies:
        cookie = f"__Secure-{cookie.removeprefix('__Secure-')}"
    return secret.encode(), cookie


def _read_common(name: str, section: Section) -> tuple[str, Stack, Any, OnPeerError]:
    stack = _required(section, "STACK", either(STACKS), lambda value: value in STACKS)
    user: Any = "pk"
    with section.noting("USER"):
        user = _read_user(section.raw.get("USER", "pk"))
    is_policy = ON_PEER_ERROR.__contains__
    return (
        name,
        stack or "better-auth",
        user,
        section.get("ON_ERROR", either(ON_PEER_ERROR), lambda value: is_policy(value)),
    )


def _read_user(value: Any) -> str | Callable[[Any], Any]:
    if isinstance(value, str) and (value == "pk" or ":" in value):
        kind, _, name = value.partition(":")
        if value != "pk" and (kind != "field" or not name.isidentifier() or "__" in name):
            raise Wrong(f"must not be {shown(value)}", USER_HINT)
        return value
    return read_function(value, 1, USER_HINT)


def _required(section: Section, name: str, expected: str, is_valid: Callable[[Any], bool]) -> Any:
    """A setting without a default."""
    value = section.raw.get(name)
    if value is None or not is_valid(value):
        hint = "There is no default."
        if name == "STACK" and isinstance(value, str):
            hint = did_you_mean(value, STACKS)
        section.problem("E003", name, f"must be {expected}", hint)
        return ""
    return value


def is_url(value: Any) -> bool:
    """Is this a URL of http or https, without a fragment or credentials?"""
    if not is_text(value) or not value.isascii() or any(char.isspace() for char in value):
        return False
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018  # raises for what is no port
    except ValueError:
        return False
    is_plain = not (parts.fragment or parts.username or parts.password)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and is_plain


def is_cookie(value: Any) -> bool:
    """Could this be the name of a cookie?"""
    return is_text(value) and value.isascii() and not set(value) & set(' \t\r\n"(),/:;<=>?@[\\]{}')
