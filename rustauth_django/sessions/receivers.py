"""Receivers of Django's signals: who signs in, whose password changes, who is deleted."""

import logging
from copy import copy
from importlib import import_module
from typing import Any

from django.contrib.auth import HASH_SESSION_KEY, get_user_model
from django.contrib.auth.hashers import is_password_usable
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from ..conf import get_settings, of_django
from ..connections import get_guard, run
from ..exceptions import BackendError
from ..limits.devices import Device
from ..limits.guard import django_request
from .current import current_session
from .identity import user_id_of
from .index import Indexed, SessionPlan
from .info import Reason
from .store import SessionStore, SignIn, client_of, read_data, user_sessions
from .users import revoking_but, tell

logger = logging.getLogger("rustauth_django")


def note_client(*, request: Any, user: Any, **kwargs: Any) -> None:
    """A receiver of ``user_logged_in``: notes who signs in, and from where."""
    request = django_request(request)
    session = getattr(request, "session", None)
    if request is None or not isinstance(session, SessionStore):
        return
    options = get_guard().options
    device = options.login.device_age and Device.of(request, options.login.device_age)
    is_known = bool(device and device.knows(user, options.visitors))
    session.sign_in(SignIn(client_of(request), user, is_new_device=not is_known))


def revoke_on_change(
    *, instance: Any, created: bool, using: str, update_fields: Any = None, **kwargs: Any
) -> None:
    """A receiver of ``post_save`` of users.

    A new password, or none, ends all sessions but the one in which it was set; a user who may no
    longer sign in loses all.
    """
    if created or not is_user(instance):
        return
    if not getattr(instance, "is_active", True):
        _revoke_later(instance, using, None, "user_deactivated")
    # Django uses this attribute too: it is None if only the hash was upgraded. After this save it
    # is gone, so it counts whichever fields are saved.
    elif getattr(instance, "_password", None) is not None:
        _revoke_later(instance, using, current_session(), "password_changed")
    elif _has_no_password(instance, update_fields):
        # Nobody says when that was set, but sessions that began before it have another hash.
        spared = current_session()
        _revoke_later(instance, using, spared, "password_changed", valid=_hashes(instance))


def revoke_on_delete(*, instance: Any, using: str, **kwargs: Any) -> None:
    """A receiver of ``post_delete`` of users."""
    if is_user(instance):
        _revoke_later(instance, using, None, "user_deleted")


def _outdated(user_id: str, spared: str | None, valid: set[str]) -> SessionPlan[list[Indexed]]:
    """End the sessions that began with another password, as far as Django can tell."""
    meant: list[Indexed] = []
    if valid:
        for record, part in (yield from user_sessions().of_user(user_id)):
            if part is not None and record.token != spared:
                data = read_data(part.data, SessionStore().serializer)
                if data is not None and data.get(HASH_SESSION_KEY) not in valid:
                    meant.append((record.token, record))
    return (yield from user_sessions().end(user_id, meant))


def is_user(instance: Any) -> bool:
    """Is this a user (or of a proxy model) on a site that uses this session engine?"""
    try:
        if not isinstance(instance, get_user_model()):
            return False
    except ImproperlyConfigured:  # a site without users
        return False
    if not get_settings().sessions.revoke_on_change:
        return False
    engine = getattr(import_module(of_django("SESSION_ENGINE")), "SessionStore", None)
    return isinstance(engine, type) and issubclass(engine, SessionStore)


def _has_no_password(user: Any, update_fields: Any) -> bool:
    """Was an unusable password saved, new or not?"""
    is_saved = update_fields is None or "password" in update_fields
    return is_saved and not is_password_usable(getattr(user, "password", None))


def _hashes(user: Any) -> set[str]:
    """The hashes that a session of a user may have for Django; none if it looks at none."""
    if not hasattr(user, "get_session_auth_hash"):
        return set()
    return {user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()}


def _revoke_later(
    user: Any,
    using: str,
    spared: SessionStore | None,
    reason: Reason,
    *,
    valid: set[str] | None = None,
) -> None:
    """Revoke on commit; with ``valid``, only sessions that have none of these hashes.

    An outage does not fail the request, since Django refuses these sessions anyway.
    """
    # Django takes the key off a user who is deleted.
    user, user_id = copy(user), user_id_of(user.pk)

    def revoke() -> None:
        # By now the session may have a new key.
        token = spared.token if spared else None
        plan = revoking_but(user_id, token) if valid is None else _outdated(user_id, token, valid)
        try:
            tell(user, user_id, run(plan), reason)
        except BackendError as error:
            logger.error("Sessions could not be revoked: %s", error.reason)

    transaction.on_commit(revoke, using=using)
