"""Lua, read once from its files, and how it is called."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

# The text of each script that was loaded, by its SHA-1.
_texts: dict[Any, str] = {}


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and the SHA-1 under which a server keeps it."""

    text: str = field(repr=False)
    sha: str

    @classmethod
    def load(cls, package: str, *names: str) -> "Script":
        """The script in these files of ``package``, one after the other."""
        folder = resources.files(package)
        return cls.of(
            "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)
        )

    @classmethod
    def of(cls, text: str) -> "Script":
        """The script of this text."""
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        _texts[sha] = text
        return cls(text, sha)

    def call(self, keys: Sequence[bytes], *arguments: str | bytes | int) -> tuple[Any, ...]:
        """The command that runs it on ``keys``, by its hash."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)


def with_text(command: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same call of a script, for a server that does not know its hash."""
    _, sha, *rest = command
    return ("EVAL", _texts[sha], *rest)
