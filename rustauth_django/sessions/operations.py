"""The operations on a session and its user's index, each one atomic step."""

from dataclasses import dataclass, replace
from typing import Any

from ..engine.commands import Command, Script
from ..engine.memory import Memory
from ..engine.operations import CONDITIONS, Condition, Operation, Set, encode, integer
from ..engine.plans import Plan
from .records import read_index, write_index

PUT_SESSION = Script.load(__package__, "lua/sessions.lua", "lua/put_session.lua")
DROP_TOKENS = Script.load(__package__, "lua/sessions.lua", "lua/drop_tokens.lua")


@dataclass(frozen=True, slots=True, repr=False)
class PutSession(Operation[int | None]):
    """Store a session if its key is "absent" or "present", as ``only_if`` says, and add it to its
    user's index.

    The index lives at least as long as the longest of its sessions. The answer is the number of
    tokens in the index, 0 if the token was there already, None if the session was not stored.
    Without a ``key`` only the index is written.
    """

    label = "session put"
    index: str
    token: str
    ttl_ms: int
    key: str | None = None
    value: str = ""
    only_if: Condition = "present"

    def command(self) -> Command:
        keys = [encode(key) for key in (self.key, self.index) if key is not None]
        condition = CONDITIONS[self.only_if]
        return PUT_SESSION.call(keys, self.token, self.ttl_ms, self.value.encode(), *condition)

    def answer(self, reply: Any) -> int | None:
        count = integer(reply)
        return None if count < 0 else count

    def in_memory(self, memory: Memory) -> int | None:
        if self.key is not None:
            if (memory.get(self.key) is not None) != (self.only_if == "present"):
                return None
            memory.set(self.key, self.value, self.ttl_ms)
        found = memory.find(self.index)
        tokens = read_index(found and found.content)
        expires_at = max((found and found.expires_at) or 0, memory.clock() + self.ttl_ms)
        is_new = self.token not in tokens
        if is_new:
            tokens.append(self.token)
        memory.set_until(self.index, write_index(tokens), expires_at)
        return len(tokens) if is_new else 0

    def across_slots(self) -> "Plan[Operation[Any], int | None] | None":
        return None if self.key is None else self._one_by_one(self.key)

    def _one_by_one(self, key: str) -> "Plan[Operation[Any], int | None]":
        """The session first, then the index: each one step on its own server."""
        if not (yield Set(key, self.value, self.ttl_ms, self.only_if)):
            return None
        count: int | None = yield replace(self, key=None, value="")
        return count


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
