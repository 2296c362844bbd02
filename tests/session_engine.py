"""A site's own engine, made of ours."""

from rustauth_django import sessions


class SessionStore(sessions.SessionStore):
    """With nothing of its own."""
