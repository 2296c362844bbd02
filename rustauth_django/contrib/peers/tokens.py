"""Tokens that a peer has signed with a key of its JWKS."""

from datetime import UTC, datetime
from typing import Any

import jwt
from django.http import HttpRequest
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from ...conf.peers import JwtPeer
from ...engine.plans import Call, Plan
from ...engine.records import moment
from .credentials import Credential, bearer_of, cookie_of
from .keys import ALGORITHMS, KeySet
from .records import BetterAuthRecord, read_id
from .session import PeerSession

# Two kinds of tokens are signed with the same keys, and neither must pass for the other (PEER-20).
CACHE_TYPE = "better-auth.session-cache+jwt"
CACHE_AUDIENCE = "better-auth:session-cache"
# What PyJWT raises for what is no token; before 2.11 also what its parsers do.
MALFORMED = (PyJWTError, RecursionError, OverflowError, ValueError, TypeError)
# Seconds by which the clocks of two machines may differ.
LEEWAY = 5
# Of a cookie: browsers take no longer one.
MAX_TOKEN = 4096


class JwtReader:
    """Tokens that a peer signed (PEER-19), and the cookie cache of Better Auth 1.7 (PEER-20)."""

    def __init__(self, peer: JwtPeer) -> None:
        self.peer = peer
        self._keys = KeySet(peer.jwks_url)

    def credentials(self, request: HttpRequest) -> list[Credential]:
        name = self.peer.cache_cookie
        found = (bearer_of(request), cookie_of(request, name, MAX_TOKEN) if name else None)
        return [one for one in found if one is not None]

    def find(self, credential: Credential) -> Plan[Call, PeerSession | None]:
        token, is_cache = credential.value, credential.is_cookie
        try:
            unverified = jwt.decode_complete(token, options={"verify_signature": False})
        except MALFORMED:
            return None
        header = unverified["header"]
        if unverified["payload"].get("iss") != self.peer.issuer:
            return None  # another peer's, whose keys are not here
        kid, kind = header.get("kid"), header.get("typ")
        if not isinstance(kid, str) or header.get("alg") not in ALGORITHMS:
            return None
        if kind != CACHE_TYPE if is_cache else str(kind or "JWT").upper() != "JWT":
            return None
        key = yield from self._keys.find(kid)
        audience = CACHE_AUDIENCE if is_cache else self.peer.audience
        claims = key and self._claims(token, key, audience)
        if not claims:
            return None
        return (read_cache if is_cache else read_claims)(self.peer.name, claims)

    def _claims(self, token: str, key: PyJWK, audience: str) -> dict[str, Any] | None:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=audience,
                issuer=self.peer.issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except MALFORMED:
            return None
        return claims


def read_claims(peer: str, claims: dict[str, Any]) -> PeerSession | None:
    """The session that the claims of a token stand for."""
    user_id = read_id(claims["sub"])
    try:
        expires_at = moment(int(claims["exp"]) * 1000)
    except (OverflowError, ValueError):
        return None
    return PeerSession(peer, user_id, None, expires_at, claims=claims) if user_id else None


def read_cache(peer: str, claims: dict[str, Any]) -> PeerSession | None:
    """The session in the claims of a cookie cache."""
    session, user = claims.get("session"), claims.get("user")
    if not isinstance(session, dict) or not isinstance(user, dict):
        return None
    record = BetterAuthRecord(session, user)
    if record.user_id != read_id(claims["sub"]):
        return None
    return record.session(peer, claims.get("sid"), datetime.now(UTC))
