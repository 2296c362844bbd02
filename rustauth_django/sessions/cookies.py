"""What the browser has of a session: ``{token}.{signature}`` (RA-01), Django's session key.

The server knows only the token, so a copy of its data signs nobody in. The signature is checked
before anything is read. It is the beginning of an HMAC-SHA256, 102 bits of it: so a key has 40
characters, and other packages have no room for more in their tables.
"""

import hmac
from base64 import urlsafe_b64encode
from functools import lru_cache
from typing import Any

from ..conf import get_settings
from .records import is_token

SIGNATURE_LENGTH = 17


def sign(token: str) -> str:
    """The session key of a token. It has no character that a cookie would have to quote."""
    return f"{token}.{_signature(token, get_settings().sessions.cookie_secrets[0])}"


def unsign(session_key: Any) -> str | None:
    """The token in a session key; None if it was not signed here."""
    if not isinstance(session_key, str):
        return None
    token, _, signature = session_key.rpartition(".")
    if not is_token(token) or len(signature) != SIGNATURE_LENGTH or not signature.isascii():
        return None
    for secret in get_settings().sessions.cookie_secrets:
        if hmac.compare_digest(signature, _signature(token, secret)):
            return token
    return None


def _signature(token: str, secret: bytes) -> str:
    signing = _signing(secret).copy()
    signing.update(token.encode())
    return urlsafe_b64encode(signing.digest())[:SIGNATURE_LENGTH].decode()


@lru_cache(maxsize=8)
def _signing(secret: bytes) -> hmac.HMAC:
    """To begin an HMAC takes longer than to end it."""
    return hmac.new(secret, digestmod="sha256")
