"""Sessions that can be seen and revoked: ``SESSION_ENGINE = "rustauth_django.sessions"``.

Each session is a record that RustAuth's services can read (SESS-01); what Django adds to it is in a
hash beside it. Each user has an index of their sessions. Both parts of a session are read in one
round trip and saved in one step.
"""

from .info import SessionInfo
from .store import SessionStore
from .users import (
    alist_sessions,
    arevoke_other_sessions,
    arevoke_session,
    arevoke_sessions,
    list_sessions,
    revoke_other_sessions,
    revoke_session,
    revoke_sessions,
)

__all__ = [
    "SessionInfo",
    "SessionStore",
    "alist_sessions",
    "arevoke_other_sessions",
    "arevoke_session",
    "arevoke_sessions",
    "list_sessions",
    "revoke_other_sessions",
    "revoke_session",
    "revoke_sessions",
]
