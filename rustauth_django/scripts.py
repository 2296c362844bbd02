"""Lua, read once from its files."""

import hashlib
from dataclasses import dataclass, field
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and the SHA-1 under which a server keeps it."""

    text: str = field(repr=False)
    sha: str

    @classmethod
    def load(cls, package: str, *names: str) -> "Script":
        """The script in these files of ``package``, one after the other."""
        folder = resources.files(package)
        text = "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
