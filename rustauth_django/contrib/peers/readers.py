"""How the sessions of each kind of peer are found."""

from datetime import UTC, datetime
from typing import Protocol

from django.http import HttpRequest

from ...conf.peers import CookiePeer, Peer, RedisPeer
from ...engine.backends import Backend
from ...engine.keyspace import DEFAULT_SCAN_COUNT, Keyspace
from ...engine.operations import Get
from ...engine.plans import Call, Plan
from .credentials import Credential, bearer_of, cookie_of, decode, unsign
from .records import BetterAuthRecord, mark_key, read_rustauth, session_key
from .session import PeerSession


class Reader(Protocol):
    """How the sessions of one peer are found."""

    @property
    def peer(self) -> Peer: ...

    def credentials(self, request: HttpRequest) -> list[Credential]:
        """What could be this peer's, in the order in which it counts."""

    def find(self, credential: Credential) -> Plan[Call, PeerSession | None]:
        """The session, if it counts. Raises ``BackendError`` if that cannot be known."""


class CookieReader:
    """Sessions by a token that the peer has signed; the signature comes before any read."""

    def __init__(self, peer: CookiePeer) -> None:
        self.peer = peer

    def credentials(self, request: HttpRequest) -> list[Credential]:
        found = (bearer_of(request), cookie_of(request, self.peer.cookie))
        return [one for one in found if one is not None]

    def find(self, credential: Credential) -> Plan[Call, PeerSession | None]:
        value = credential.value
        if credential.is_cookie and self.peer.stack == "better-auth":
            value = decode(value)  # RustAuth takes a cookie as it is (PEER-03)
        token = unsign(value, self.peer.secret)
        return None if token is None else (yield from self.read(token))

    def read(self, token: str) -> Plan[Call, PeerSession | None]:
        """The session of a token, if it counts."""
        raise NotImplementedError


class RedisReader(CookieReader):
    """Sessions on a server that both stacks have; this one only reads, twice at most."""

    def __init__(self, peer: RedisPeer, backend: Backend) -> None:
        super().__init__(peer)
        self._prefix = peer.key_prefix
        self._backend = backend

    def read(self, token: str) -> Plan[Call, PeerSession | None]:
        is_rustauth = self.peer.stack == "rustauth"
        return (yield from (self._rustauth if is_rustauth else self._better_auth)(token))

    def _rustauth(self, token: str) -> Plan[Call, PeerSession | None]:
        keyspace = Keyspace(self._prefix, "secondary", "peer", DEFAULT_SCAN_COUNT)
        text = yield from self._get(keyspace.physical(f"session:{token}"))
        return read_rustauth(self.peer.name, text, token, datetime.now(UTC))

    def _better_auth(self, token: str) -> Plan[Call, PeerSession | None]:
        record = BetterAuthRecord.read((yield from self._get(session_key(self._prefix, token))))
        if record is None or record.user_id is None:
            return None
        # Also for 1.6, which writes no marks: this one cannot know which version is there.
        mark = yield from self._get(mark_key(self._prefix, record.user_id))
        return record.session(self.peer.name, token, datetime.now(UTC), mark)

    def _get(self, key: str) -> Plan[Call, str | None]:
        operation = (Get(key, "replace"),)
        text: str | None = yield Call(self._backend.run, operation, twin=self._backend.arun)
        return text
