"""A session engine that a test fills in."""

from django.contrib.sessions.backends.db import SessionStore

__all__ = ["SessionStore"]
