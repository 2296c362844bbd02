"""Commands in the form in which they are sent, and scripts, read once from their files."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, TypeAlias

Command: TypeAlias = tuple[str | bytes | int, ...]

# Sent before a command for a slot of a cluster that is on its way to another server.
ASKING = b"*1\r\n$6\r\nASKING\r\n"

# The text of each script that was loaded, by its SHA-1.
_texts: dict[Any, str] = {}


class Packed(tuple[str | bytes | int, ...]):
    """A command that brings its own ``packed`` form."""

    packed: bytes


class Several(Packed):
    """Commands that are sent in one write, or in a cluster in one to each server.

    Their reply is the list of their replies, in which None stands for a key of another type. The
    first other error is the error of all. In a cluster some may be sent twice, so they must only
    read.
    """

    commands: tuple[Command, ...]

    @classmethod
    def of(cls, *commands: Command) -> "Several":
        """These commands, one after the other."""
        several = cls(commands[0])
        several.commands = commands
        several.packed = b"".join(map(pack, commands))
        return several


def pack(command: Command) -> bytes:
    """The bytes of a command. Raises ``UnicodeEncodeError`` for text that UTF-8 cannot hold."""
    if isinstance(command, Packed):
        return command.packed
    return b"*%d\r\n%b" % (len(command), pack_arguments(command))


def pack_arguments(arguments: Iterable[str | bytes | int]) -> bytes:
    """The bytes of some of a command's arguments."""
    parts = []
    for argument in arguments:
        if type(argument) is not bytes:
            argument = str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(argument), argument))
    return b"".join(parts)


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


class ScriptCall:
    """A call of a script of which only the keys vary: everything else is packed once."""

    __slots__ = ("_after", "_before", "_head", "_tail")

    def __init__(self, script: Script, keys: int, *arguments: str | bytes | int) -> None:
        self._before = ("EVALSHA", script.sha, keys)
        self._after = arguments
        count = len(self._before) + keys + len(arguments)
        self._head = b"*%d\r\n%b" % (count, pack_arguments(self._before))
        self._tail = pack_arguments(arguments)

    def on(self, *keys: bytes) -> Packed:
        """The command for these keys."""
        command = Packed((*self._before, *keys, *self._after))
        command.packed = b"%b%b%b" % (self._head, pack_arguments(keys), self._tail)
        return command


def with_text(command: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same call of a script, for a server that does not know its hash."""
    _, sha, *rest = command
    return ("EVAL", _texts[sha], *rest)
