"""Which user of the site's a session of a peer is of."""

from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import (
    FieldError,
    MultipleObjectsReturned,
    ObjectDoesNotExist,
    ValidationError,
)
from django.db import DatabaseError

from ...conf.peers import Peer
from ...engine.plans import Call, Plan
from ...sessions.identity import user_id_of
from .session import PeerSession

# What databases and fields raise for an id that cannot be one of theirs.
NOBODY = (
    MultipleObjectsReturned,
    ObjectDoesNotExist,
    DatabaseError,
    FieldError,
    OverflowError,
    TypeError,
    ValidationError,
    ValueError,
)


def user_of(peer: Peer, session: PeerSession) -> Plan[Call, Any]:
    """The user of a session, as ``USER`` says; None if there is none, or no active one."""
    if callable(peer.user):
        user = yield Call(peer.user, (session,))
    else:
        name = "pk" if peer.user == "pk" else peer.user.removeprefix("field:")
        user = yield Call(find, (name, session.user_id), twin=afind)
    is_user = user is not None and getattr(user, "is_authenticated", False)
    return user if is_user and getattr(user, "is_active", True) else None


def find(name: str, value: str) -> Any:
    try:
        return checked(get_user_model()._default_manager.get(**{name: value}), name, value)
    except NOBODY:
        return None


async def afind(name: str, value: str) -> Any:
    try:
        user = await get_user_model()._default_manager.aget(**{name: value})
        return checked(user, name, value)
    except NOBODY:
        return None


def checked(user: Any, name: str, value: str) -> Any:
    """The user, if it has exactly this value: a field may take "007" for 7, and a database "A" for
    "a", but these are two users at the peer.
    """
    attribute = user._meta.get_field(name).attname if name != "pk" else name
    found = user_id_of(user.pk) if name == "pk" else str(getattr(user, attribute))
    return user if found == value else None
