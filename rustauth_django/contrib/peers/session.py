"""A session of another stack, as Django sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class PeerSession:
    """A session of the peer ``peer``, a name in ``RUSTAUTH["PEERS"]``.

    ``user_id`` is the user's id there, as text. A token that was signed by the peer has no
    ``session_id``, and says nothing of where it was used. ``claims`` are what the peer says of the
    user; some of it may be for nobody's eyes, so show none of it unless you know the field.
    """

    peer: str
    user_id: str
    session_id: str | None
    expires_at: datetime
    ip_address: str | None = field(default=None, repr=False)
    user_agent: str | None = None
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)
