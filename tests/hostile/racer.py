"""A process of a site with sessions in a database: it revokes or visits, a line for each task."""

import importlib
import importlib.util
import json
import sys
from typing import Any

import django
from django.conf import settings

VISITS = 3


def visit(key: str) -> None:
    """Requests that read, save, or move a session, whatever becomes of it."""
    from django.contrib.sessions.backends.base import UpdateError

    from rustauth_django import BackendError
    from rustauth_django.sessions import SessionStore

    for number in range(VISITS):
        try:
            session = SessionStore(key)
            session.get("cart")
            session["cart"] = [number]
            session.save()
        except (UpdateError, BackendError):
            continue


def revoke(user_id: str, way: str) -> None:
    from django.contrib.auth.models import User

    from rustauth_django.sessions import list_sessions, revoke_session, revoke_sessions

    user = User(pk=int(user_id))
    if way == "all":
        revoke_sessions(user)
        return
    for one in list_sessions(user):
        revoke_session(user, one.id)


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main(config: dict[str, Any]) -> None:
    if "mysql" in str(config["DATABASES"]) and importlib.util.find_spec("MySQLdb") is None:
        importlib.import_module("pymysql").install_as_MySQLdb()
    settings.configure(**config)
    django.setup()
    say("ready")
    for line in sys.stdin:
        task = json.loads(line)
        if task["do"] == "visit":
            visit(task["key"])
        else:
            revoke(task["user"], task["do"])
        say("done")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
