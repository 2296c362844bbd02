"""The real Better Auth; tests/peers/better-auth says which versions."""

import hashlib
import json
import shutil
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any

from .services import CACHE, SECRET, SOURCES, NotInstalled, Service, alone, build

SOURCE = SOURCES / "better-auth"
VERSIONS = ("1.6.9", "1.7.25")


@cache
def install() -> Path:
    """The folder with all versions. Raises ``NotInstalled``."""
    if not (shutil.which("node") and shutil.which("npm")):
        raise NotInstalled("Node.js with npm is not installed")
    files = sorted(path for path in SOURCE.rglob("*") if path.is_file())
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    folder = CACHE / f"better-auth-{digest}"
    with alone("better-auth"):
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(SOURCE, partial)
            for version in VERSIONS:
                # A module is looked for from the file that imports it.
                shutil.copy(SOURCE / "server.mjs", partial / version)
            build(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], partial)
            partial.rename(folder)
    return folder


class BetterAuth(Service):
    """One service: sessions on the server of ``redis_url`` and users in its own memory; without it,
    all of them in a database that the options name.
    """

    def __init__(self, version: str, redis_url: str | None, prefix: str, **options: Any) -> None:
        given = {
            "redis": redis_url,
            "secret": SECRET,
            "prefix": prefix,
            "plugins": ["bearer", "jwt", "multiSession", "admin"],
            **options,
        }
        self.version = version
        super().__init__(["node", "server.mjs", json.dumps(given)], install() / version)

    def make_admin(self, user_id: str) -> None:
        """Make an administrator, for which there is no interface."""
        with urllib.request.urlopen(f"{self.url}/make-admin/{user_id}", timeout=30):
            pass
