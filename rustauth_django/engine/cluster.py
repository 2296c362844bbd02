"""Redis Cluster: each command goes to the server that holds the slot of its key.

Each server has a client like that of a single server, and which of them a command goes to is a
plan, once for both faces. A cluster client that a caller brings lends its connections, but its
routing is not used: there, a call that fails first searches for the cluster anew, while calls of
other threads wait or, with asyncio, lose their connections; and it ignores TLS options that it does
not know.
"""

import asyncio
import random
import re
import selectors
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from redis import asyncio as aioredis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterError,
    MaxConnectionsError,
    MovedError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from .backends import TRANSLATED, ServerBackend, is_handlers
from .commands import Command, Several
from .operations import InvalidReply, Operation, array, integer, text
from .plans import Plan, adrive, drive
from .protocol import Overload, is_raised_in
from .wire import UNLIMITED, Started

T = TypeVar("T")
Address: TypeAlias = tuple[str, int]

# The wrong server does not carry a command out, so it may be sent to the right one.
MAX_REDIRECTIONS = 5
# A slot and an address.
REDIRECTION = re.compile(r"[0-9]+ \S*:[0-9]+")
# While something is wrong, one call in so many seconds also asks which server holds which slots.
ASK_AGAIN_SECONDS = 1.0


class Sending(NamedTuple):
    """A command for the server at ``address``, which may still be ``asking`` for its slot."""

    address: Address
    command: Command
    asking: bool = False


class SendingSeveral(NamedTuple):
    """Commands that only read, for the server at ``address``."""

    address: Address
    command: Several


class Topology(NamedTuple):
    """Who holds each slot, and the lowest slot of each server."""

    owners: list[Address | None]
    lowest: dict[Address, int]


#: What a plan of the cluster yields. A list is sent at once; its answer has replies and exceptions.
Step: TypeAlias = Sending | list[SendingSeveral]


class Node(Protocol):
    """One server of a cluster."""

    location: str

    def perform(self, command: Command, *, asking: bool = False) -> Any: ...
    def start(self, command: Several, *, waits: bool) -> Started | None: ...
    async def aperform(self, command: Command, *, asking: bool = False) -> Any: ...
    def close(self) -> None: ...
    async def aclose(self) -> None: ...


class NodePool:
    """The connections of one server in a caller's asyncio cluster client, as a pool lends them."""

    def __init__(self, client: aioredis.RedisCluster, address: Address) -> None:
        self.connection_kwargs: dict[str, Any] = client.connection_kwargs
        self.max_connections: int = self.connection_kwargs.get("max_connections", UNLIMITED)
        self._client = client
        self._address = address
        self._nodes: dict[Any, Any] = {}

    async def get_connection(self, *_: str) -> Any:
        node = await self._node()
        try:
            connection = node.acquire_connection()
        except MaxConnectionsError:
            raise Overload from None
        self._nodes[connection] = node
        try:
            await connection.connect()
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: Any) -> None:
        node = self._nodes.pop(connection)
        # Before version 7 of redis-py there was no method for it.
        getattr(node, "release", node._free.append)(connection)

    async def _node(self) -> Any:
        client = self._client
        await client.initialize()
        node = client.get_node(*self._address)
        if node is None:
            await client.nodes_manager.initialize()
            node = client.get_node(*self._address)
        if node is None:
            raise RedisConnectionError("the cluster client does not know of the server")
        return node


class ClusterBackend(ServerBackend):
    """A cluster, found on first use through the servers at ``seeds``.

    ``open_node`` makes the backend of the server at an address. ``remap`` turns an address that the
    cluster reports into one that can be reached.
    """

    def __init__(
        self,
        seeds: Sequence[Address],
        open_node: Callable[[str, int], Node],
        *,
        remap: Callable[[str, int], Address] = lambda host, port: (host, port),
    ) -> None:
        self._seeds = seeds
        self._open_node = open_node
        self._remap = remap
        self._nodes: dict[Address, Node] = {}
        # Threads and loops share the topology without a lock: if two ask at once, either answer
        # will do.
        self._known: Topology | None = None
        self._is_doubtful = False
        self._ask_again_at = 0.0
        server = self._node(seeds[0]).location.removesuffix("/0")
        self.location = f"the cluster at {server}"

    def run(self, operation: Operation[T]) -> T:
        parts = operation.across_slots()
        return super().run(operation) if parts is None else drive(parts, super().run)

    async def arun(self, operation: Operation[T]) -> T:
        parts = operation.across_slots()
        if parts is None:
            return await super().arun(operation)
        return await adrive(parts, super().arun)

    def perform(self, command: Command) -> Any:
        return drive(self._route(command), self._send)

    async def aperform(self, command: Command) -> Any:
        return await adrive(self._route(command), self._asend)

    def close(self) -> None:
        for node in list(self._nodes.values()):
            node.close()

    async def aclose(self) -> None:
        for node in list(self._nodes.values()):
            await node.aclose()

    def _send(self, step: Step) -> Any:
        if isinstance(step, Sending):
            return self._node(step.address).perform(step.command, asking=step.asking)
        started: dict[int, Started] = {}
        outcomes: list[Any] = [None] * len(step)
        try:
            for place, (address, command) in enumerate(step):
                start = partial(self._node(address).start, command)
                one = outcome_of(partial(start, waits=False))
                if one is None:
                    # Whoever waits for a connection of one server holds none of another.
                    finish(started, outcomes)
                    one = outcome_of(partial(start, waits=True))
                if isinstance(one, Started):
                    started[place] = one
                outcomes[place] = one
            finish(started, outcomes)
        finally:
            for one in started.values():
                one.abandon()
        return outcomes

    async def _asend(self, step: Step) -> Any:
        if isinstance(step, Sending):
            return await self._node(step.address).aperform(step.command, asking=step.asking)
        sent = [self._node(address).aperform(command) for address, command in step]
        return await asyncio.gather(*sent, return_exceptions=True)

    def _node(self, address: Address) -> Node:
        node = self._nodes.get(address)
        # If two threads come here at once, one of the two nodes is never used.
        return node or self._nodes.setdefault(address, self._open_node(*address))

    def _route(self, command: tuple[Any, ...]) -> Plan[Step, Any]:
        if isinstance(command, Several):
            return (yield from self._to_slots(command.commands))
        if command[0] == "SCAN":
            _, cursor, *options = command
            return (yield from self._scan(cursor, options))
        topology = yield from self._topology()
        return (yield from self._to_slot(topology, slot_of(command), command))

    def _to_slots(self, commands: Sequence[Command]) -> Plan[Step, list[Any]]:
        """Send commands that only read to all of their servers at once."""
        topology = yield from self._topology()
        slots = [slot_of(command) for command in commands]
        places: dict[Address, list[int]] = {}
        for place, slot in enumerate(slots):
            places.setdefault(self._owner(topology, slot), []).append(place)
        # Threads that hold connections of some servers want those of others in the same order.
        step = [
            SendingSeveral(address, Several.of(*(commands[place] for place in places[address])))
            for address in sorted(places)
        ]
        replies: list[Any] = [None] * len(commands)
        for sending, outcome in zip(step, (yield step), strict=True):
            asked = places[sending.address]
            if isinstance(outcome, BaseException):
                self._note(outcome)
                if redirection_of(outcome) is None:
                    raise outcome
                outcome = []
                for place in asked:
                    one = Several.of(commands[place])
                    outcome += yield from self._to_slot(topology, slots[place], one)
            for place, reply in zip(asked, outcome, strict=True):
                replies[place] = reply
        return replies

    def _owner(self, topology: Topology, slot: int) -> Address:
        address = topology.owners[slot]
        if address is None:
            self._is_doubtful = True
            raise RedisConnectionError(f"no server holds slot {slot}")
        return address

    def _note(self, error: BaseException) -> None:
        # An overload says nothing about the servers.
        self._is_doubtful |= not isinstance(error, Overload)

    def _scan(self, position: int, options: list[Any]) -> Plan[Step, Any]:
        """One page of a walk from server to server, by their lowest slots.

        The cursor holds that slot beside the server's own cursor, so that a walk goes on
        where it was when a slot has a new server.
        """
        topology = yield from self._topology(anew=position == 0)
        starts = sorted(topology.lowest.values())
        cursor, slot = divmod(position, SLOTS)
        if position == 0:
            slot = starts[0]
        reply = yield from self._to_slot(topology, slot, ("SCAN", cursor, *options))
        cursor, keys = array(reply, 2)
        cursor = int(text(cursor))
        if not cursor:
            slot = next((start for start in starts if start > slot), 0)
        return [cursor * SLOTS + slot, keys]

    def _to_slot(self, topology: Topology, slot: int, command: Command) -> Plan[Step, Any]:
        """Send a command to the server that holds a slot, and follow redirections."""
        address, asking = self._owner(topology, slot), False
        for _ in range(MAX_REDIRECTIONS):
            try:
                return (yield Sending(address, command, asking))
            except Exception as error:
                self._note(error)
                redirection = redirection_of(error)
                if redirection is None:
                    raise
                address = self._remap(redirection.host or address[0], redirection.port)
                asking = not isinstance(redirection, MovedError)
                if not asking:
                    topology.owners[slot] = address
        raise ClusterError("the servers refer to each other")

    def _topology(self, *, anew: bool = False) -> Plan[Step, Topology]:
        """Which server holds which slots, as last known; ``anew`` asks in any case."""
        known = self._known
        now = time.monotonic()
        if known and not anew and not (self._is_doubtful and now >= self._ask_again_at):
            return known
        self._ask_again_at = now + ASK_AGAIN_SECONDS
        failure: Exception = RedisConnectionError("there is no server to ask")
        # Without an answer the known topology has to do. Only one server is asked, since each that
        # is away costs a time-out.
        candidates = [*self._seeds, *known.lowest] if known else self._seeds
        for address in random.sample(candidates, 1 if known else len(candidates)):
            try:
                reply = yield Sending(address, ("CLUSTER", "SLOTS"))
                self._known = known = read_topology(reply, address[0], self._remap)
            except TRANSLATED as error:
                if is_handlers(error):
                    raise
                failure = error
            else:
                self._is_doubtful = False
                break
        if known is None:
            raise failure
        return known


def outcome_of(call: Callable[[], Any]) -> Any:
    """The result of a call, or the exception that the plan is to see."""
    try:
        return call()
    except TRANSLATED as error:
        if is_handlers(error):
            raise
        return error


def finish(started: dict[int, Started], outcomes: list[Any]) -> None:
    """Read the replies; a server that has answered is not held up by one that has not."""
    for place in ready(started):
        outcomes[place] = outcome_of(started.pop(place).finish)


def ready(started: dict[int, Started]) -> Iterator[int]:
    """The places of what was sent, as their replies come; in the end those of the others, too."""
    if len(started) > 1:
        seconds = next(iter(started.values())).seconds
        ends_at = None if seconds is None else time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            for place, one in started.items():
                selector.register(one.socket, selectors.EVENT_READ, place)
            while len(started) > 1:
                left = None if ends_at is None else max(0.0, ends_at - time.monotonic())
                found = selector.select(left)
                if not found:
                    break
                for key, _ in found:
                    selector.unregister(key.fileobj)
                    yield key.data
    yield from list(started)


def slot_of(command: Command) -> int:
    """The slot of the key of a command; without a key any will do."""
    match command:
        case ("EVALSHA" | "EVAL", _, _, key, *_) | (_, key, *_):
            return int(key_slot(key if isinstance(key, bytes) else str(key).encode()))
    return 0


def read_topology(reply: Any, host: str, remap: Callable[[str, int], Address]) -> Topology:
    """What CLUSTER SLOTS says; a server that is named by its port alone is at ``host``."""
    topology = Topology([None] * SLOTS, {})
    try:
        for start, end, (name, port, *_), *_ in reply:
            address = remap(text(name) if name else host, integer(port))
            topology.owners[start : end + 1] = [address] * (end + 1 - start)
            topology.lowest[address] = min(start, topology.lowest.get(address, start))
    except (TypeError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError) or not is_raised_in("rustauth_django", error):
            raise
        raise InvalidReply("a table of slots") from None
    if not topology.lowest:
        raise RedisConnectionError("the server is in no cluster yet")
    return topology


def redirection_of(error: BaseException) -> AskError | None:
    """The redirection in a server's error, if it is one.

    In early versions of redis-py only the cluster client makes a class of its own of it.
    """
    if isinstance(error, AskError):
        return error
    word, _, rest = str(error).partition(" ")
    kind = {"ASK": AskError, "MOVED": MovedError}.get(word)
    if kind is None or not isinstance(error, ResponseError):
        return None
    return kind(rest) if REDIRECTION.fullmatch(rest) else None
