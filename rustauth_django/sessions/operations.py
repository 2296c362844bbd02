"""The operations on a session and its user's index, each one atomic step.

On a cluster, the keys of a session are on different servers: there, to write is a step for each.
As a session begins its hash is written first; from then on, what happens to the record decides. A
hash without a record is nothing, and expires.
"""

import re
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import Any, Literal, TypeAlias

from ..engine.commands import Command, Packed, Script, Several, pack_arguments
from ..engine.memory import Memory
from ..engine.operations import (
    Delete,
    GetMany,
    InvalidReply,
    Operation,
    Unlink,
    array,
    encode,
    integer,
    texts,
)
from ..engine.plans import Plan
from .records import FIELDS, read_index, write_index

#: How a session is written; see lua/write_session.lua.
How: TypeAlias = Literal["NX", "XX", "TOUCH", "KEEP", "FILL", "CONFIRM"]
#: The text of a record, or None; and the fields of a hash, or None.
Stored: TypeAlias = tuple[str | None, dict[str, bytes] | None]

PACKED_FIELDS = pack_arguments(FIELDS)
WRITE_SESSION = Script.load(__package__, "lua/sessions.lua", "lua/write_session.lua")
MOVE_SESSION = Script.load(__package__, "lua/sessions.lua", "lua/move_session.lua")
DROP_TOKENS = Script.load(__package__, "lua/sessions.lua", "lua/drop_tokens.lua")


@dataclass(frozen=True, slots=True, repr=False)
class LoadSessions(Operation[list[Stored]]):
    """The records at ``keys``, each with the hash at the same place in ``hashes``."""

    label = "session load"
    keys: tuple[str, ...]
    hashes: tuple[str, ...]

    def command(self) -> Command:
        records = [("GET", encode(key)) for key in self.keys]
        return Several.of(*records, *(read_of(encode(key)) for key in self.hashes))

    def answer(self, reply: Any) -> list[Stored]:
        replies, size = array(reply, 2 * len(self.keys)), len(self.keys)
        hashes = map(read_fields, replies[size:])
        return list(zip(texts(replies[:size], size), hashes, strict=True))

    def in_memory(self, memory: Memory) -> list[Stored]:
        hashes = [memory.find_hash(key) for key in self.hashes]
        found = [memory.get(key) for key in self.keys]
        return list(zip(found, (one and one.content for one in hashes), strict=True))


@dataclass(frozen=True, slots=True, repr=False)
class ReadHash(Operation[dict[str, bytes] | None]):
    """The hash of one session."""

    label = "session load"
    hash: str

    def command(self) -> Command:
        return read_of(encode(self.hash))

    def answer(self, reply: Any) -> dict[str, bytes] | None:
        return read_fields(reply)

    def in_memory(self, memory: Memory) -> dict[str, bytes] | None:
        found = memory.find_hash(self.hash)
        return found and found.content


@dataclass(frozen=True, slots=True, repr=False)
class WriteSession(Operation[int | None]):
    """Write a session's record, hash and index, or those of the three that have a key.

    ``how`` says what becomes of the record: "NX" writes it if there is none, "XX" if there is one.
    If there is one, "TOUCH" changes its two times, unless somebody has written since
    ``seen_before``, and "KEEP" nothing of it; ``value`` is then the new ``expires_at``, or nothing.
    "FILL" writes a copy that is provisional, over another such one, and "CONFIRM" lets it live on
    if it still has the state in ``updated_at``.

    The answer is the number of tokens in the index, 0 if the token was there already, None if
    nothing was written.
    """

    label = "session save"
    token: str
    ttl_ms: int
    how: How
    record: str | None
    hash: str | None
    index: str | None
    value: str = ""
    updated_at: str = ""
    seen_before: bytes = b""
    fields: dict[str, bytes] = field(default_factory=dict)

    def command(self) -> Command:
        named = {"r": self.record, "h": self.hash, "i": self.index}
        keys = {name: encode(key) for name, key in named.items() if key is not None}
        fields = (part for pair in self.fields.items() for part in pair)
        return WRITE_SESSION.call(
            list(keys.values()),
            *("".join(keys), self.how, self.token, self.ttl_ms),
            *(self.value.encode(), self.updated_at, self.seen_before, *fields),
        )

    def answer(self, reply: Any) -> int | None:
        count = integer(reply)
        return None if count < 0 else count

    def in_memory(self, memory: Memory) -> int | None:
        found = memory.find_hash(self.hash) if self.hash else None
        is_nothing = self.how == "FILL" and self.record and memory.get(self.record) is None
        if self.hash and not (is_nothing or self._may_write(found.content if found else {})):
            return None
        if self.record is not None and not self._write_record(self.record, memory):
            return None
        if self.hash is not None:
            self._write_hash(self.hash, memory)
        if self.index is None:
            return 0
        return add_token(memory, self.index, self.token, self.ttl_ms)

    def _may_write(self, fields: dict[str, bytes]) -> bool:
        state, is_filled = fields.get("state", b""), is_provisional(fields)
        match self.how:
            case "NX":
                return True
            case "FILL":
                return is_filled or not state
            case "CONFIRM":
                return state == self.updated_at.encode()
            case "TOUCH":
                return not is_filled and fields.get("seen_at") == self.seen_before
        return not is_filled

    def _write_hash(self, key: str, memory: Memory) -> None:
        before = memory.find_hash(key)
        content = {**(before.content if before else {}), **self.fields}
        if self.how == "CONFIRM":
            content["state"] = b"row"
        memory.set_hash(key, content, self.ttl_ms)

    def _write_record(self, key: str, memory: Memory) -> bool:
        text = memory.get(key)
        if self.how == "FILL":
            memory.set(key, self.value, self.ttl_ms)
            return True
        if (text is None) != (self.how == "NX"):
            return False
        if text is None or self.how == "XX":
            memory.set(key, self.value, self.ttl_ms)
        elif self.how == "TOUCH":
            times = {"expires_at": self.value, "updated_at": self.updated_at}
            for name, time in times.items():
                text, count = re.subn(rf'"{name}":\s*"[^"]*"', f'"{name}":"{time}"', text, count=1)
                if not count:
                    return False
            memory.set(key, text, self.ttl_ms)
        elif self.how == "CONFIRM":
            memory.set(key, text, self.ttl_ms)
        return True

    def across_slots(self) -> "Plan[Operation[Any], int | None] | None":
        keys = [key for key in (self.record, self.hash, self.index) if key is not None]
        return self.one_by_one() if len(keys) > 1 else None

    def one_by_one(self) -> "Plan[Operation[Any], int | None]":
        record = replace(self, hash=None, index=None, fields={})
        # Its state decides whether it is confirmed.
        state = self.updated_at if self.how == "CONFIRM" else ""
        hash = replace(self, record=None, index=None, value="", updated_at=state)
        index = replace(self, record=None, hash=None, value="", updated_at="", fields={})
        if self.how in ("XX", "KEEP") and self.hash and is_provisional((yield ReadHash(self.hash))):
            return None
        if self.how == "FILL" and self.record and (yield GetMany((self.record,))) == [None]:
            hash = replace(hash, how="NX")  # whatever it says, it is nothing without a record
        order = [record, hash] if self.how in ("XX", "KEEP") else [hash, record]
        count: int | None = 0
        for part in [*order, index]:
            if part.record or part.hash or part.index:
                count = yield part
                if count is None:
                    return None
        return count


@dataclass(frozen=True, slots=True, repr=False)
class MoveSession(Operation[bool]):
    """Give a session a new token, if it is still there. Was it?"""

    label = "session move"
    before: str
    token: str
    ttl_ms: int
    record_before: str
    hash_before: str
    record: str
    hash: str
    index: str | None
    value: str
    fields: dict[str, bytes]

    def command(self) -> Command:
        keys = (self.record_before, self.hash_before, self.record, self.hash, self.index)
        fields = (part for pair in self.fields.items() for part in pair)
        return MOVE_SESSION.call(
            [encode(key) for key in keys if key is not None],
            *(self.before, self.token, self.ttl_ms, self.value.encode(), *fields),
        )

    def answer(self, reply: Any) -> bool:
        return integer(reply) > 0

    def in_memory(self, memory: Memory) -> bool:
        before = memory.find_hash(self.hash_before)
        if is_provisional(before and before.content) or not memory.remove(self.record_before):
            return False
        memory.remove(self.hash_before)
        memory.set(self.record, self.value, self.ttl_ms)
        memory.set_hash(self.hash, self.fields, self.ttl_ms)
        if self.index is not None:
            add_token(memory, self.index, self.token, self.ttl_ms, self.before)
        return True

    def across_slots(self) -> "Plan[Operation[Any], bool]":
        """The end of the old record decides. Until then there are both: whoever revokes finds one
        of them, and a server that fails takes neither.
        """
        if is_provisional((yield ReadHash(self.hash_before))):
            return False
        write = WriteSession(
            *(self.token, self.ttl_ms, "NX", self.record, self.hash, self.index),
            value=self.value,
            fields=self.fields,
        )
        yield from write.one_by_one()
        if not (yield Delete(self.record_before)):
            yield Unlink((self.record,))
            yield Unlink((self.hash,))
            if self.index is not None:
                yield DropTokens(self.index, (self.token,))
            return False
        if self.index is not None:
            yield DropTokens(self.index, (self.before,))
        yield Unlink((self.hash_before,))
        return True


@dataclass(frozen=True, slots=True, repr=False)
class EndSessions(Operation[list[bool]]):
    """Remove the records at ``keys``, and their ``hashes``. Was each record there?"""

    label = "session end"
    keys: tuple[str, ...]
    hashes: tuple[str, ...]

    def command(self) -> Command:
        records = [Unlink((key,)).command() for key in self.keys]
        return Several.of(*records, Unlink(self.hashes).command())

    def answer(self, reply: Any) -> list[bool]:
        *records, _ = map(integer, array(reply, len(self.keys) + 1))
        return [count > 0 for count in records]

    def in_memory(self, memory: Memory) -> list[bool]:
        Unlink(self.hashes).in_memory(memory)
        return [memory.remove(key) for key in self.keys]

    def across_slots(self) -> "Plan[Operation[Any], list[bool]]":
        """One step for each key."""
        ended: list[bool] = []
        for key in self.keys:
            count = yield Unlink((key,))
            ended.append(count > 0)
        for key in self.hashes:
            yield Unlink((key,))
        return ended


@dataclass(frozen=True, slots=True, repr=False)
class DropTokens(Operation[int]):
    """Take ``tokens`` out of the index of a user's sessions. How many were in it?"""

    label = "session drop"
    index: str
    tokens: tuple[str, ...]

    def command(self) -> Command:
        return DROP_TOKENS.call([encode(self.index)], *self.tokens)

    def answer(self, reply: Any) -> int:
        return integer(reply)

    def in_memory(self, memory: Memory) -> int:
        found = memory.find(self.index)
        tokens = read_index(found and found.content)
        left = [token for token in tokens if token not in self.tokens]
        if found and left:
            memory.set_until(self.index, write_index(left), found.expires_at)
        else:
            memory.pop(self.index)
        return len(tokens) - len(left)


def add_token(
    memory: Memory, index: str, token: str, ttl_ms: int, before: str | None = None
) -> int:
    """Add a token to an index, in the place of ``before`` if that is there.

    The index lives at least as long as the longest of its sessions. Returns how many tokens it has,
    0 if it had this one.
    """
    found = memory.find(index)
    tokens = read_index(found and found.content)
    expires_at = max((found and found.expires_at) or 0, memory.clock() + ttl_ms)
    is_new = token not in tokens
    if is_new and before in tokens:
        tokens[tokens.index(before)] = token
    elif is_new:
        tokens.append(token)
    memory.set_until(index, write_index(tokens), expires_at)
    return len(tokens) if is_new else 0


def read_of(key: bytes) -> Packed:
    """The command that reads a hash; its names are packed once."""
    command = Packed(("HMGET", key, *FIELDS))
    command.packed = b"*%d\r\n$5\r\nHMGET\r\n$%d\r\n%b\r\n%b" % (
        len(command),
        len(key),
        key,
        PACKED_FIELDS,
    )
    return command


def is_provisional(fields: dict[str, bytes] | None) -> bool:
    """Is this the hash of a copy that nobody is to read yet?"""
    return (fields or {}).get("state", b"").startswith(b"fill")


def read_fields(reply: Any) -> dict[str, bytes] | None:
    """The fields of a hash that are there; None if there is no hash, or a key of another type."""
    if reply is None:
        return None
    values = array(reply, len(FIELDS))
    kinds = set(map(type, values))
    if kinds == {bytes}:
        return dict(zip(FIELDS, values, strict=True))
    if kinds <= {bytes, NoneType}:
        found = zip(FIELDS, values, strict=True)
        return {name: value for name, value in found if value is not None} or None
    raise InvalidReply("an array of strings")
