"""Several commands in one write: their replies belong together, whoever else is calling."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from rustauth_django import BackendError, RustAuthStores
from rustauth_django.engine.commands import Command, Several
from rustauth_django.engine.loops import MAX_IN_FLIGHT
from rustauth_django.engine.memory import Memory
from rustauth_django.engine.operations import Get, GetMany, InvalidReply, Operation, Set
from rustauth_django.sessions.operations import EndSessions, LoadSessions
from rustauth_django.sessions.records import FIELDS

from .faces import Face
from .servers import Server
from .test_wire import calls


@dataclass(frozen=True)
class Raw(Operation[Any]):
    """Commands as they are, and their replies as they come."""

    label = "raw"
    commands: tuple[Command, ...]

    def command(self) -> Command:
        return Several.of(*self.commands)

    def answer(self, reply: Any) -> Any:
        return reply

    def in_memory(self, memory: Memory) -> Any:
        raise NotImplementedError


@pytest.fixture
def face(server_stores: RustAuthStores, runner: asyncio.Runner | None) -> Face:
    return Face(server_stores.backend, runner)


def test_replies_come_in_the_order_of_the_commands(face: Face, prefix: str, raw: Any) -> None:
    """Each once; a key of another type is nothing."""
    raw.set(f"{prefix}a", "1")
    raw.lpush(f"{prefix}list", "x")
    commands = (("GET", f"{prefix}a"), ("GET", f"{prefix}list"), ("INCR", f"{prefix}a"))
    assert face.run(Raw(commands)) == [b"1", None, 2]
    assert face.run(Get(f"{prefix}a")) == "2"


def test_the_first_error_is_that_of_all(face: Face, prefix: str) -> None:
    """All of them are read, so that the next call has its own reply."""
    commands = (("SET", f"{prefix}a", "x"), ("INCR", f"{prefix}a"), ("GET", f"{prefix}a"))
    with pytest.raises(BackendError, match="not an integer"):
        face.run(Raw(commands))
    assert face.run(Get(f"{prefix}a")) == "x"


def test_a_session_is_two_reads_in_one_write(face: Face, prefix: str, raw: Any) -> None:
    """A GET for each record, an HMGET for each hash."""
    raw.set(f"{prefix}r1", "one")
    raw.hset(f"{prefix}h1", mapping={"data": "x", "other": "y"})
    raw.set(f"{prefix}h2", "no hash")
    raw.lpush(f"{prefix}r2", "no text")
    calls(raw)
    keys, hashes = ([f"{prefix}{kind}{n}" for n in (1, 2, 3)] for kind in "rh")
    found = face.run(LoadSessions(tuple(keys), tuple(hashes)))
    assert found == [("one", {"data": b"x"}), (None, None), (None, None)]
    assert calls(raw) == {"get": 3, "hmget": 3}
    assert face.run(EndSessions(tuple(keys), tuple(hashes))) == [True, True, False]
    assert raw.keys(f"{prefix}*") == []


@pytest.mark.parametrize(
    "reply", [None, [], [[b"x"]], [[b"x"], [b"y"]], [[b"x"], [1] * len(FIELDS)], [[1], None], {}]
)
def test_a_reply_of_another_kind_is_refused(reply: Any) -> None:
    """And never an exception of Python's."""
    with pytest.raises(InvalidReply):
        LoadSessions(("k",), ("h",)).answer(reply)
    with pytest.raises(InvalidReply):
        EndSessions(("k",), ("h",)).answer(reply)


@pytest.mark.parametrize("reply", [None, [], [b"x", b"y"], b"x"])
def test_an_array_has_a_reply_for_each_key(reply: Any) -> None:
    """No more and no less."""
    with pytest.raises(InvalidReply):
        GetMany(("k",)).answer(reply)


async def test_tasks_get_their_own_replies(server: Server, prefix: str) -> None:
    """Of single commands and of several, among calls that wait for their turn or are cancelled."""
    stores = RustAuthStores.from_url(server.url, key_prefix=prefix)
    backend = stores.backend
    for number in range(50):
        await backend.arun(Set(f"{prefix}{number}", str(number), 60_000))

    async def one(number: int) -> bool:
        return await backend.arun(Get(f"{prefix}{number}")) == str(number)

    async def several(number: int) -> bool:
        keys = [f"{prefix}{n % 50}" for n in range(number, number + 3)]
        found = await backend.arun(Raw(tuple(("GET", key) for key in keys)))
        return found == [str(n % 50).encode() for n in range(number, number + 3)]

    for _ in range(3):
        tasks = [
            asyncio.create_task((one, several)[number % 2](number % 50))
            for number in range(2 * MAX_IN_FLIGHT)
        ]
        await asyncio.sleep(0)
        for task in tasks[::5]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [one for one in done if not isinstance(one, asyncio.CancelledError)].count(
            True
        ) == len(tasks) - len(tasks[::5])
    await stores.aclose()


def test_a_lost_connection_fails_all_of_them(server: Server, prefix: str) -> None:
    """None is sent twice."""
    with redis.Redis(port=server.port) as raw:
        stores = RustAuthStores.from_url(server.url, key_prefix=prefix)
        commands = (("INCR", f"{prefix}n"), ("CLIENT", "KILL", "SKIPME", "no", "TYPE", "normal"))
        with pytest.raises(BackendError):
            stores.backend.run(Raw((*commands, ("INCR", f"{prefix}n"))))
        assert raw.get(f"{prefix}n") == b"1"
        stores.close()
