"""Accounts without a database: who may sign in, how views see them, where their sessions are."""

from typing import Any

from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import User
from django.http import HttpRequest

from rustauth_django import RustAuthStores
from rustauth_django.sessions.index import UserSessions

PASSWORD = "correct horse"
NAMES = {"ada": 1, "grace": 2, "ada@example.com": 1}


class Person(User):
    """A user that is never saved."""

    class Meta:
        proxy = True
        app_label = "auth"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Nowhere."""


def person(pk: int) -> Person:
    return Person(pk=pk, username={1: "ada", 2: "grace"}[pk], email="ada@example.com")


class PeopleBackend(BaseBackend):
    """Signs in by user name, and Ada by her e-mail address as well."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None
    ) -> Person | None:
        pk = NAMES.get(username or "")
        return person(pk) if pk and password == PASSWORD else None

    def get_user(self, user_id: Any) -> Person | None:
        return person(int(user_id))


def sessions_of(stores: RustAuthStores, most: int = 1_000) -> UserSessions:
    """The records and indexes of login sessions on these stores, ``most`` for a user."""
    return UserSessions(stores.secondary_storage.keyspace, most)
