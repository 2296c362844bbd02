"""Who is signed in at a peer: the credentials of a request, their sessions, and the users."""

import logging
from copy import copy
from typing import Any, TypeAlias

from django.http import HttpRequest, QueryDict
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.functional import SimpleLazyObject
from django.utils.module_loading import import_string

from ...conf import Settings
from ...conf.peers import DatabasePeer, JwtPeer, Peer, RedisPeer
from ...connections import arun, get_feature, run
from ...engine.backends import Backend
from ...engine.opening import open_backend
from ...engine.plans import Call, Plan
from ...exceptions import BackendError, InvalidConfig
from ...stores import RustAuthStores
from .credentials import Credential
from .readers import Reader, RedisReader
from .session import PeerSession
from .tables import DatabaseReader
from .users import user_of

logger = logging.getLogger("rustauth_django")

Found: TypeAlias = tuple[Any, PeerSession]

# Who was found, on the request.
ATTRIBUTE = "_rustauth_django_peer"

# By its path: the package that it needs is an extra.
JWT_READER = "rustauth_django.contrib.peers.tokens.JwtReader"


class CsrfFailed(Exception):
    """A cookie says who it is, but the request may be forged; the message says why."""


class Peers:
    """The readers of all peers, in their order. Raises ``InvalidConfig`` that names the setting."""

    def __init__(self, settings: Settings, stores: RustAuthStores) -> None:
        self._opened: list[Backend] = []
        self._away: set[str] = set()
        self.readers = [self._open(peer, stores) for peer in settings.peers]

    def _open(self, peer: Peer, stores: RustAuthStores) -> Reader:
        where = f'RUSTAUTH["PEERS"]["{peer.name}"]'
        if isinstance(peer, JwtPeer):
            try:
                reader: Reader = import_string(JWT_READER)(peer)
            except ImportError:
                told = f"{where} needs PyJWT: install rustauth-django[jwt]"
                raise InvalidConfig(told) from None
            return reader
        if isinstance(peer, DatabasePeer):
            return DatabaseReader(peer)
        assert isinstance(peer, RedisPeer)
        if peer.url is None:
            return RedisReader(peer, stores.backend)
        try:
            backend = open_backend(peer.url, {})
        except InvalidConfig as error:
            raise InvalidConfig(f'{where}["URL"]: {error}') from None
        self._opened.append(backend)
        return RedisReader(peer, backend)

    def close(self) -> None:
        for backend in self._opened:
            backend.close()

    def note(self, peer: Peer, error: BackendError | None) -> None:
        """Log once that a peer cannot be asked, and once that it can again."""
        if error is not None and peer.name not in self._away:
            self._away.add(peer.name)
            logger.warning(
                "The sessions of the peer %s cannot be known now, so ON_ERROR applies: %s",
                peer.name,
                error.reason,
            )
        elif error is None and peer.name in self._away:
            self._away.discard(peer.name)
            logger.warning("The sessions of the peer %s are known again.", peer.name)


def authenticate_peer(request: HttpRequest) -> PeerSession | None:
    """Set ``request.user`` and ``request.peer_session`` if somebody is signed in at a peer.

    A user whom Django has signed in stays. Raises ``BackendError`` if a peer whose ``ON_ERROR`` is
    "deny" cannot be asked.
    """
    return attach(request, run(identifying(request)))


async def aauthenticate_peer(request: HttpRequest) -> PeerSession | None:
    """The same, asynchronously."""
    return attach(request, await arun(identifying(request)))


def identifying(request: HttpRequest, *, reads_body: bool = True) -> Plan[Call, Found | None]:
    """Who is signed in at a peer, unless Django has signed somebody in."""
    known = known_in(request)
    if known is not None:
        return known
    brought = brought_by(request)
    # Without anything that could be a peer's, Django's session is not even read.
    if not brought or (yield Call(has_user, (request,), twin=ahas_user)):
        return None
    try:
        return (yield from _first_of(brought, request, reads_body=reads_body))
    except CsrfFailed:
        return None


def known_in(request: HttpRequest) -> Found | None:
    """Who was found before, if nobody has signed in or out since."""
    known: Found | None = getattr(request, ATTRIBUTE, None)
    return known if known is not None and getattr(request, "user", None) is known[0] else None


def brought_by(request: HttpRequest) -> list[tuple[Reader, Credential]]:
    """What could be a peer's, with its reader."""
    readers = get_feature(Peers).readers
    return [(reader, one) for reader in readers for one in reader.credentials(request)]


def authenticating(request: HttpRequest) -> Plan[Call, Found | None]:
    """Who is signed in at a peer, whomever Django has signed in. Raises ``CsrfFailed``."""
    known = known_in(request)
    if known is not None:
        return known
    return (yield from _first_of(brought_by(request), request, reads_body=True))


def _first_of(
    brought: list[tuple[Reader, Credential]], request: HttpRequest, *, reads_body: bool
) -> Plan[Call, Found | None]:
    """The user and the session that the first peer answers with. Raises ``CsrfFailed`` if there is
    one, but a forged request would bring its cookie as well. Unless this ``reads_body``, the token
    against that has to be in a header.
    """
    peers = get_feature(Peers)
    forged: CsrfFailed | None = None
    for reader, credential in brought:
        try:
            session = yield from reader.find(credential)
        except BackendError as error:
            peers.note(reader.peer, error)
            if reader.peer.on_error == "deny":
                raise
            continue
        if session is None:
            continue
        peers.note(reader.peer, None)
        if credential.is_cookie and is_unsafe(request):
            reason = yield Call(why_forged, (request, reads_body))
            if reason is not None:
                forged = CsrfFailed(reason)
                continue
        user = yield from user_of(reader.peer, session)
        if user is not None:
            return user, session
    if forged is not None:
        raise forged
    return None


def attach(request: HttpRequest, found: Found | None) -> PeerSession | None:
    """Let a request know whose it is."""
    setattr(request, ATTRIBUTE, found)
    if found is None:
        request.peer_session = None  # type: ignore[attr-defined]  # it is ours
        return None
    user, session = found

    async def auser() -> Any:
        # Whoever signs somebody in or out sets the other attribute.
        return request.user

    request.user, request.auser = user, auser
    request.peer_session = session  # type: ignore[attr-defined]
    return session


def has_user(request: HttpRequest) -> bool:
    """Has Django signed somebody in?"""
    user = getattr(request, "user", None)
    return user is not None and user.is_authenticated


async def ahas_user(request: HttpRequest) -> bool:
    user = getattr(request, "user", None)
    if user is not None and not isinstance(user, SimpleLazyObject):
        return bool(user.is_authenticated)  # somebody else's middleware has set it
    get_user = getattr(request, "auser", None)
    return get_user is not None and (await get_user()).is_authenticated


def is_unsafe(request: HttpRequest) -> bool:
    """Could a forged request do harm, and did nobody check yet that it is none?"""
    is_checked = getattr(request, "csrf_processing_done", False)
    return request.method not in ("GET", "HEAD", "OPTIONS", "TRACE") and not is_checked


class CsrfCheck(CsrfViewMiddleware):
    """Django's check, whatever the view is exempt from; it says why it refuses."""

    def __init__(self) -> None:
        super().__init__(lambda request: None)  # type: ignore[arg-type]  # no response

    def _reject(self, request: HttpRequest, reason: str) -> Any:
        return reason


def why_forged(request: HttpRequest, reads_body: bool = True) -> str | None:
    """Why this may be a forged request, as Django's own check says it; None if it is none."""
    check = CsrfCheck()
    if not reads_body:
        request = copy(request)
        request._post = QueryDict()  # type: ignore[attr-defined]  # where Django keeps it
    check.process_request(request)
    reason: Any = check.process_view(request, None, (), {})  # type: ignore[arg-type]
    return None if reason is None else str(reason)
