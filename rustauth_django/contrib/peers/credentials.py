"""What a request brings with it: cookies and bearer tokens, as they were sent."""

import base64
import hmac
from typing import NamedTuple
from urllib.parse import unquote

from django.http import HttpRequest

from ...sessions.records import MAX_TOKEN, is_token

# A signature is 44 characters of base64, each of which a cookie may have in three.
MAX_COOKIE = 3 * (MAX_TOKEN + 45)
# Tokens that a peer signed have its users' fields in them.
MAX_BEARER = 16_384


class Credential(NamedTuple):
    """A value that says who somebody is; a browser sends a cookie by itself."""

    value: str
    is_cookie: bool

    def __repr__(self) -> str:
        return f"<Credential: {'cookie' if self.is_cookie else 'bearer token'}>"


def cookie_of(request: HttpRequest, name: str, longest: int = MAX_COOKIE) -> Credential | None:
    """A cookie as it was sent; None if there is none, or two that differ (PEER-04): then nobody can
    know which of them the peer would read.
    """
    values = set()
    for part in request.META.get("HTTP_COOKIE", "").split(";"):
        key, is_pair, value = part.partition("=")
        # Browsers take no other characters for blanks, and neither may this.
        if is_pair and key.strip(" \t") == name:
            values.add(value.strip(" \t"))
    if len(values) != 1:
        return None
    value = values.pop()
    return Credential(value, is_cookie=True) if 0 < len(value) <= longest else None


def bearer_of(request: HttpRequest) -> Credential | None:
    """The token of an Authorization header."""
    scheme, _, value = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    value = value.strip(" \t")
    if scheme.lower() != "bearer" or not 0 < len(value) <= MAX_BEARER:
        return None
    return Credential(value, is_cookie=False)


def decode(value: str) -> str:
    """The text of a cookie that was percent-encoded (PEER-02); "" if it is no text."""
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        return ""


def unsign(value: str, secret: bytes) -> str | None:
    """The token of ``{token}.{signature}``; None if it was not signed with the secret (PEER-02,
    PEER-03, PEER-17).
    """
    token, _, signature = value.rpartition(".")
    if not is_token(token) or not signature.isascii():
        return None
    expected = base64.b64encode(hmac.digest(secret, token.encode(), "sha256")).decode()
    return token if hmac.compare_digest(signature, expected) else None
