"""Lua, one script a file, read once."""

import hashlib
from dataclasses import dataclass, field
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and the SHA-1 under which a server keeps it."""

    text: str = field(repr=False)
    sha: str

    @classmethod
    def load(cls, package: str, name: str) -> "Script":
        """The script in the file ``name`` of ``package``."""
        text = resources.files(package).joinpath(name).read_text(encoding="utf-8")
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
