"""Puts the app into whatever project a suite sets up; imported before it does so.

RUSTAUTH_ADOPTERS_URL is the server, which is emptied before each test, as a database is rolled
back.
"""

import functools
import os
from typing import Any

import django
import pytest
import redis
from django.conf import settings

URL = os.environ["RUSTAUTH_ADOPTERS_URL"]
APP = "rustauth_django"

raw = redis.Redis.from_url(URL)


def take_the_app(setup: Any) -> Any:
    """``django.setup`` with the app, its sessions, its middleware and its protection of logins."""

    @functools.wraps(setup)
    def with_the_app(*args: Any, **kwargs: Any) -> None:
        if APP not in settings.INSTALLED_APPS:
            settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, APP]
            settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{APP}.middleware.RateLimitMiddleware"]
            settings.SESSION_ENGINE = f"{APP}.sessions"
            settings.AUTHENTICATION_BACKENDS = protect(list(settings.AUTHENTICATION_BACKENDS))
            # Suites send more requests than people do; failed logins are counted all the same.
            limits = {"ENABLED": True, "RULES": [{"path": "*", "disabled": True}]}
            settings.RUSTAUTH = {"URL": URL, "TEST": {"URL": URL}, "RATE_LIMIT": limits}
        setup(*args, **kwargs)
        empty_before_each_test()

    return with_the_app


def protect(backends: list[str]) -> list[str]:
    """As docs/login.md says: one is replaced, before several stands the protection."""
    if backends == ["django.contrib.auth.backends.ModelBackend"]:
        return [f"{APP}.login.ModelBackend"]
    return [f"{APP}.login.LoginProtection", *backends]


def empty_before_each_test() -> None:
    """For those that are classes of Django's; pytest's have the fixture below."""
    from django.test import SimpleTestCase  # there are no settings sooner

    def run(self: Any, result: Any = None) -> Any:
        raw.flushdb()
        return original(self, result)

    original = SimpleTestCase.__call__
    SimpleTestCase.__call__ = run


@pytest.fixture(autouse=True)
def an_empty_server() -> None:
    raw.flushdb()


django.setup = take_the_app(django.setup)
