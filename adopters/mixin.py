"""Django's own tests of session engines, for this app's in each of its modes.

RUSTAUTH_ADOPTERS_URL is the server, which is emptied before each test.
"""

import os
import pickle
import sys
from typing import Any

import django
import redis
from django.conf import settings
from django.test import TestCase, override_settings
from django.test.utils import get_runner

import adopters

URL = os.environ["RUSTAUTH_ADOPTERS_URL"]
MODES: dict[str, dict[str, Any]] = {
    "Plain": {},
    "Database": {"DATABASE": "default"},
    "Adopt": {"ADOPT": "django.contrib.sessions.backends.db"},
    "Both": {"DATABASE": "default", "ADOPT": "django.contrib.sessions.backends.cached_db"},
}


class PickleSerializer:
    """As Django's documentation has it."""

    def dumps(self, obj: Any) -> bytes:
        return pickle.dumps(obj)

    def loads(self, data: bytes) -> Any:
        return pickle.loads(data)


def cases() -> dict[str, type]:
    """A test case for each mode, and one for another serializer."""
    from sessions_tests.tests import SessionTestsMixin  # type: ignore[import-not-found]

    from rustauth_django.sessions import SessionStore

    raw = redis.Redis.from_url(URL)

    class Mode(SessionTestsMixin, TestCase):  # type: ignore[misc]
        backend = SessionStore

        def setUp(self) -> None:
            raw.flushdb()
            super().setUp()

    made: dict[str, type] = {}
    for name, options in MODES.items():
        wanted = override_settings(RUSTAUTH={"URL": URL, "SESSIONS": options})
        made[f"{name}Test"] = wanted(type(f"{name}Test", (Mode,), {"__module__": __name__}))
    wanted = override_settings(
        RUSTAUTH={"URL": URL}, SESSION_SERIALIZER=f"{__name__}.PickleSerializer"
    )
    made["SerializerTest"] = wanted(type("SerializerTest", (Mode,), {"__module__": __name__}))
    return made


def main() -> None:
    settings.configure(
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "sessions_tests",
            "rustauth_django",
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        SESSION_ENGINE="rustauth_django.sessions",
        RUSTAUTH={"URL": URL},
        SECRET_KEY="not a secret, these are tests",
        USE_TZ=True,
        ROOT_URLCONF=(),
    )
    django.setup()
    # Django's runner finds them by their names.
    module = adopters.mixin = sys.modules["adopters.mixin"] = sys.modules[__name__]  # type: ignore[attr-defined]
    for name, case in cases().items():
        case.__module__ = "adopters.mixin"
        setattr(module, name, case)
    names = [f"adopters.mixin.{name}" for name in vars(module) if name.endswith("Test")]
    failures = get_runner(settings)(verbosity=2).run_tests(names)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
