"""``make run``: a Valkey server, the database, a user and the site, until Ctrl-C."""

import argparse
import os
import signal
import subprocess
import sys
from typing import Any, NoReturn

import django
from django.contrib.auth import get_user_model
from django.core.management import call_command

from .embedded import embedded_server

EMAIL = "ada@example.com"
PASSWORD = "correct horse battery staple"


def prepare_database() -> None:
    """The tables, and one user to sign in as."""
    django.setup()
    call_command("migrate", verbosity=0)
    users: Any = get_user_model().objects
    if not users.filter(username=EMAIL).exists():
        users.create_user(EMAIL, EMAIL, PASSWORD)


def stop(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m example_project", description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    port = parser.parse_args().port
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, stop)
    with embedded_server() as url:
        os.environ["DJANGO_SETTINGS_MODULE"] = "example_project.settings"
        os.environ["RUSTAUTH_URL"] = url
        os.environ["PYTHONUNBUFFERED"] = "1"  # mails are printed as they are sent
        prepare_database()
        print(f"Valkey is at {url}")
        print(f"Sign in at http://127.0.0.1:{port}/ as {EMAIL}, password: {PASSWORD}")
        print("Ctrl-C stops all of it.", flush=True)
        site = subprocess.Popen([sys.executable, "manage.py", "runserver", f"127.0.0.1:{port}"])
        try:
            return site.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            site.terminate()
            site.wait()


if __name__ == "__main__":
    sys.exit(main())
