"""Users who are signed in at another stack, Better Auth or RustAuth: ``RUSTAUTH["PEERS"]``."""

from .authentication import aauthenticate_peer, authenticate_peer
from .middleware import PeerSessionMiddleware
from .session import PeerSession

__all__ = ["PeerSession", "PeerSessionMiddleware", "aauthenticate_peer", "authenticate_peer"]
