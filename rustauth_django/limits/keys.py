"""What a limit counts by (an address, a user, a field that was sent), as a part of a key.

``ip``, ``user``, ``user_or_ip``, ``header:NAME``, ``post:FIELD``, ``get:FIELD``, ``json:FIELD``, a
function or its dotted path, or a tuple of these. Addresses and the primary keys of users are in the
key as they are; a value that a client sends or a function returns is in the key as an HMAC
(KEY-04), so keys have a bounded length and reveal nothing.
"""

import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any, Literal, TypeAlias
from unicodedata import category, normalize

from django.http import HttpRequest, RawPostDataException
from django.utils.functional import LazyObject, empty
from django.utils.module_loading import import_string

from ..engine.plans import Call, Plan
from ..exceptions import InvalidConfig
from .clients import ClientAddresses

MissingIP: TypeAlias = Literal["deny", "shared-bucket", "allow"]
KeyFunction: TypeAlias = Callable[[HttpRequest], Any]
Key: TypeAlias = str | KeyFunction | tuple[str | KeyFunction, ...]
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
MAX_TYPED = 4096
# The name of the limits on logins, in headers and keys.
LOGIN = "login"
KINDS = ("header", "post", "get", "json")
KEY_HINT = (
    'write "ip", "user", "user_or_ip", "header:NAME", "post:FIELD", "get:FIELD", "json:FIELD",'
    " a function of the request or its dotted path, or a tuple of them"
)


# Unicode counts these as letters, but they are invisible.
FILLERS = "\u115f\u1160\u3164\uffa0"
NOT_PRINTED = dict.fromkeys((*range(33), 127))


def fold(text: str) -> str:
    """One spelling for all texts that a database or a reader may take for the same.

    Case, compatibility forms (such as full width), marks on letters, blanks and invisible
    characters make no difference. This merges more texts than any single database does.
    """
    if text.isascii():
        return text.translate(NOT_PRINTED).lower()
    # Marks are removed first: normalisation would sort them, in time that grows with the square of
    # their number.
    seen = "".join(filter(_is_seen, text))
    letters = normalize("NFD", normalize("NFKC", seen).casefold())
    return "".join(filter(_is_seen, letters)).replace("\u0131", "i")


def _is_seen(char: str) -> bool:
    kind = category(char)
    return not (kind[0] in "CZ" or kind in ("Mn", "Me") or char in FILLERS)


class MissingAddress(Exception):
    """There is no address that can be trusted, and MISSING_IP is "deny"."""


@dataclass(frozen=True, slots=True)
class Visitors:
    """How the site tells visitors apart: its rules for addresses, and the secret of its HMACs."""

    addresses: ClientAddresses
    track_ip: bool
    missing_ip: MissingIP
    secret: str = field(repr=False)

    def address(self, request: HttpRequest) -> str | None:
        """The address to count by; None if addresses do not count. Raises ``MissingAddress`` if
        there has to be one.
        """
        if not self.track_ip:
            return None
        found = self.addresses.resolve(request.META)
        if found is None and self.missing_ip == "deny":
            raise MissingAddress
        return "missing-ip" if found is None and self.missing_ip == "shared-bucket" else found

    def digest(self, text: str) -> str:
        """The HMAC-SHA256 of some text under the site's secret, in hex (KEY-05)."""
        return hmac.new(self.secret.encode(), text.encode(errors="replace"), sha256).hexdigest()

    def typed(self, text: str) -> str:
        """The same for a text that people type, after ``fold``."""
        # Nobody types so much. All such texts count as one, so that padding is no way around a
        # limit.
        return self.digest("\0" if len(text) > MAX_TYPED else fold(text))


Reader: TypeAlias = Callable[[HttpRequest, Visitors], Plan[Call, str | None]]


@dataclass(frozen=True, slots=True)
class Subject:
    """What a limit counts by; ``text`` is its description for people."""

    text: str
    readers: tuple[Reader, ...]

    def read(self, request: HttpRequest, visitors: Visitors) -> Plan[Call, str | None]:
        """The part of the key; None for a request that is not to be counted."""
        parts = []
        for reader in self.readers:
            part = yield from reader(request, visitors)
            if part is not None:
                parts.append(part)
        return "|".join(parts) or None


def parse_key(key: Key) -> Subject:
    """The subject that a ``key`` argument describes. Raises ``InvalidConfig``."""
    parts = key if isinstance(key, tuple | list) else (key,)
    if not parts:
        raise InvalidConfig(f"a rate limit's key must not be empty; {KEY_HINT}")
    return Subject(", ".join(map(_text, parts)), tuple(map(_reader, parts)))


def _text(part: Any) -> str:
    return part if isinstance(part, str) else getattr(part, "__qualname__", type(part).__name__)


def _reader(part: str | KeyFunction) -> Reader:
    if isinstance(part, str):
        if part in NAMED:
            return NAMED[part]
        kind, separator, name = part.partition(":")
        if separator and kind in KINDS and name:
            return partial(_read_sent, kind, name)
        try:
            part = import_string(part)
        except Exception as error:  # noqa: BLE001  # whatever the site's module does
            told = f"{type(error).__name__}: {error}"
            raise InvalidConfig(
                f"{part!r} is no key of a rate limit ({told}); {KEY_HINT}"
            ) from None
    if not callable(part):
        raise InvalidConfig(f"{part!r} is no key of a rate limit; {KEY_HINT}")
    return partial(_read_function, part)


def _read_ip(request: HttpRequest, visitors: Visitors) -> Plan[Call, str | None]:
    yield from ()
    return visitors.address(request)


def _read_user(request: HttpRequest, visitors: Visitors) -> Plan[Call, str | None]:
    if not hasattr(request, "user"):
        raise InvalidConfig('the key "user" needs AuthenticationMiddleware before the limit')
    user = yield Call(_user_of, (request,), twin=_auser_of)
    return user_key(user.pk) if user.is_authenticated else None


def _user_of(request: HttpRequest) -> Any:
    request.user.is_authenticated  # noqa: B018  # loads it here, in this face's way
    return request.user


async def _auser_of(request: HttpRequest) -> Any:
    user = request.user
    # Middleware for tokens sets only this attribute; the user of a session may not be loaded yet.
    is_unread = isinstance(user, LazyObject) and user._wrapped is empty
    return await request.auser() if is_unread and hasattr(request, "auser") else user


def user_key(pk: Any) -> str:
    """The part of a key that stands for a user."""
    return f"user:{pk}"


def account_key(account: str) -> str:
    """The key under which failed logins are counted in the account of this HMAC: a user's, however
    the name is spelled, or that of a name that is no user's.
    """
    return f"account:{account}|{LOGIN}"


def pair_key(account: str, password: str, address: str, visitors: Visitors) -> str:
    """The key under which failed logins in an account from an address are counted.

    ``account`` is the account's HMAC. A new ``password``, of which this is the hash, begins new
    counters at every address.
    """
    return f"pair:{account}|{visitors.digest(password)[:16]}|{address}|{LOGIN}"


def login_facts(key: str) -> dict[str, str]:
    """What a key of the limits on logins is about: ``what``, and the ``account`` as its HMAC or the
    ``address``, or both.
    """
    subject, *others = key.split("|")
    kind, _, digest = subject.partition(":")
    if kind == "pair":
        return {"what": kind, "account": digest, "address": others[1]}
    if kind in ("account", "device"):
        return {"what": kind, "account": digest}
    return {"what": "address", "address": subject}


def account_digest(user: Any, visitors: Visitors) -> str:
    """The HMAC of a user, which stands for the account in keys."""
    return user_digest(user._meta.pk.to_python(user.pk), visitors)


def user_digest(pk: Any, visitors: Visitors) -> str:
    """The HMAC of a user with this primary key."""
    # No text that is typed has this first character, after ``fold``.
    return visitors.digest(f"\0pk:{pk}")


def password_hash(user: Any) -> str:
    """What changes with the user's password; "" for nobody and for models without passwords."""
    hash_of = getattr(user, "get_session_auth_hash", None)  # AbstractBaseUser's
    return str(hash_of()) if hash_of else ""


def _read_user_or_ip(request: HttpRequest, visitors: Visitors) -> Plan[Call, str | None]:
    return (yield from _read_user(request, visitors)) or visitors.address(request)


def _read_sent(
    kind: str, name: str, request: HttpRequest, visitors: Visitors
) -> Plan[Call, str | None]:
    """The key of a value that the client sent; without one the request counts by its address."""
    yield from ()
    value = _sent(kind, name, request)
    if not value:
        return visitors.address(request)
    digest = visitors.digest(value) if kind == "header" else visitors.typed(value)
    return f"{kind}:{name}:{digest}"


def _sent(kind: str, name: str, request: HttpRequest) -> str | None:
    match kind:
        case "header":
            return request.headers.get(name)
        case "get":
            return request.GET.get(name)
    # A view may parse a body as JSON whatever Content-Type the client sends, so this does too.
    try:
        if request.content_type in FORMS:
            return request.POST.get(name)
        body = json.loads(request.body)
    except (ValueError, LookupError, RecursionError, RawPostDataException):
        # LookupError: the charset is none of text. The last: somebody has read it as a stream.
        return None
    value = body.get(name) if isinstance(body, dict) else None
    is_plain = isinstance(value, str | int) and not isinstance(value, bool)
    return str(value) if is_plain else None


def _read_function(
    function: KeyFunction, request: HttpRequest, visitors: Visitors
) -> Plan[Call, str | None]:
    """The key that a site's function returns; None for a request that is not to be counted."""
    value = yield Call(function, (request,))
    name = getattr(function, "__qualname__", type(function).__name__)
    return None if value is None else f"{name}:{visitors.digest(str(value))}"


NAMED: dict[str, Reader] = {"ip": _read_ip, "user": _read_user, "user_or_ip": _read_user_or_ip}
