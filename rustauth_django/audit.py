"""The audit log: a line of JSON for each failed login, lock, unlock and revocation of sessions.

``RUSTAUTH["AUDIT"]`` switches it on. The lines go to the logger ``rustauth_django.audit`` at level
INFO; each record also has the same values as a dictionary, ``record.audit``. An account is the HMAC
that stands for it in keys. Addresses are left out unless ``ADDRESSES`` is on.
"""

import json
import logging
from typing import Any, Literal, TypeAlias

from .conf import get_settings
from .limits.keys import login_facts, user_digest

Event: TypeAlias = Literal["login_failed", "login_locked", "login_unlocked", "sessions_revoked"]

LOGGER = "rustauth_django.audit"
logger = logging.getLogger(LOGGER)


def record(event: Event, **facts: Any) -> None:
    """Write a line, if the site wants an audit log; facts that are None are left out."""
    options = get_settings().audit
    if options is None:
        return
    if not options.addresses:
        facts.pop("address", None)
    line = {"event": event} | {name: value for name, value in facts.items() if value is not None}
    logger.info(json.dumps(line), extra={"audit": line})


def record_unlocked(key: str) -> None:
    """Write a line for the limit on logins that was freed under this key."""
    record("login_unlocked", **login_facts(key))


def record_revoked(user_id: Any, count: int) -> None:
    """Write a line for ``count`` sessions of the user with this primary key."""
    digest = user_digest(user_id, get_settings().rate_limit.visitors)
    record("sessions_revoked", account=digest, count=count)
