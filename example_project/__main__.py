"""``make run``: a Valkey server, the database, a user and the site, until Ctrl-C."""

import argparse
import os
import signal
import socket
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
    parser.add_argument("--port", type=port_number, default=8000)
    port = parser.parse_args().port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            parser.error(f"port {port}: {error.strerror}; take another with make run PORT=")
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
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


def port_number(text: str) -> int:
    """A port, for argparse."""
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(0)
    except OSError as error:
        sys.exit(f"cannot start: {error}")
