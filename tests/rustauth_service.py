"""The real RustAuth; tests/peers/rustauth says which version."""

import shutil
from functools import cache
from pathlib import Path

from .services import CACHE, SECRET, SOURCES, NotInstalled, Service, alone, build

MANIFEST = SOURCES / "rustauth" / "Cargo.toml"


@cache
def install() -> Path:
    """The program. Raises ``NotInstalled``; cargo builds what has changed, and nothing else."""
    if not shutil.which("cargo"):
        raise NotInstalled("cargo is not installed")
    target = CACHE / "rustauth-service"
    with alone("rustauth-service"):
        command = ["cargo", "build", "--locked", "--quiet", "--manifest-path", str(MANIFEST)]
        build(command, MANIFEST.parent, CARGO_TARGET_DIR=str(target))
    return target / "debug" / "rustauth-peer"


class RustAuthService(Service):
    """One service: sessions and limits on a server, users in its own memory."""

    def __init__(self, redis_url: str, prefix: str) -> None:
        super().__init__([str(install()), redis_url.removesuffix("/0"), prefix, SECRET])
