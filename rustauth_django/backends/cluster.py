"""Redis Cluster: each command goes to the server that holds the slot of its key.

Each server has a client like that of a single server, and which of them a command goes to
is a plan, once for both faces. redis-py's cluster clients lend their connections, where a
caller brings one, but not their routing: in them a call that fails looks for the cluster
anew before it says so, while those of other threads wait in line or, with asyncio, lose
their connections; and what they do not know of the options of TLS is left out unsaid.
"""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, Self, TypeAlias

from redis import RedisCluster
from redis import asyncio as aioredis
from redis.cluster import ClusterNode
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterError, MovedError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from ..operations import Bucket, Consume, GetMany, Operation, PutSession, Set
from ..plans import Plan, adrive, drive
from ..rates import RateLimitDecision
from .redis import PLANS, Command, CommandBackend, PlanOf, RedisBackend, Steps, text

Address: TypeAlias = tuple[str, int]

# What was sent to the wrong server was not carried out, and may be sent to the right one.
MAX_REDIRECTIONS = 5
# While something is wrong, one call in so many seconds also asks who holds which slots.
ASK_AGAIN_SECONDS = 1.0
# What of these algorithms was given back leaves a trace: the window, or the block, stays.
LEAVE_A_TRACE = ("rustauth", "lockout")


class Sending(NamedTuple):
    """A command for the server at ``address``, which may still be ``asking`` for its slot."""

    address: Address
    command: Command
    asking: bool = False


class Topology(NamedTuple):
    """Who holds each slot, and the lowest slot of each server."""

    owners: list[Address | None]
    lowest: dict[Address, int]


class Node(RedisBackend):
    """One server of a cluster."""

    def perform_asking(self, command: Command) -> Any:
        with self._client.pipeline(transaction=False) as pipe:
            stack(pipe, ("ASKING",), command)
            return last_reply(pipe.execute(raise_on_error=False))

    async def aperform_asking(self, command: Command) -> Any:
        async with (await self._loops.client()).pipeline(transaction=False) as pipe:
            stack(pipe, ("ASKING",), command)
            return last_reply(await pipe.execute(raise_on_error=False))


def stack(pipe: Any, *commands: Command) -> None:
    """Keep commands until the pipeline is executed."""
    for command in commands:
        pipe.execute_command(*command)


def last_reply(replies: list[Any]) -> Any:
    """Raised if it is an error; one that a pipeline raises quotes the whole command."""
    if isinstance(replies[-1], Exception):
        raise replies[-1]
    return replies[-1]


def consume_by_key(operation: Consume) -> Steps[tuple[RateLimitDecision, ...]]:
    """All or nothing over several keys, each of which is one step on its own server.

    The keys are consumed one after the other. When one refuses or fails, what the ones
    before it took is given back: until then, others may be refused because of it. It is
    given back exactly, but for a ``rustauth`` window or a ``lockout`` that it began anew:
    that stays begun, which is why they come last. What a call took that is cancelled
    half-way stays taken.
    """
    parts: dict[str, list[Bucket]] = {}
    for bucket in operation.buckets:
        parts.setdefault(bucket.physical, []).append(bucket)
    decisions: dict[Bucket, RateLimitDecision] = {}
    taken: list[list[Bucket]] = []
    failures: list[Exception] = []

    def ask(part: list[Bucket], cost: int) -> Steps[bool]:
        one = replace(operation, buckets=tuple(part), cost=cost)
        answers = yield from PLANS[Consume](one)
        decisions.update(zip(part, answers, strict=True))
        return all(answer.permitted for answer in answers)

    waiting = iter(sorted(parts.values(), key=leaves_a_trace))
    for part in waiting:
        try:
            permitted = yield from ask(part, operation.cost)
        except Exception as error:  # noqa: BLE001  # raised below
            failures.append(error)
            break
        if operation.cost > 0:
            if not permitted:
                break
            taken.append(part)
    else:
        taken.clear()  # for good
    for part in taken:
        try:
            yield from ask(part, -operation.cost)
        except Exception as error:  # noqa: BLE001  # raised below
            failures.append(error)
    if failures:
        raise failures[0]
    for part in waiting:
        yield from ask(part, 0)
    return tuple(decisions[bucket] for bucket in operation.buckets)


def get_by_key(operation: GetMany) -> Steps[list[str | None]]:
    """Each from its own server."""
    found: list[str | None] = []
    for key in operation.keys:
        found += yield from PLANS[GetMany](GetMany((key,)))
    return found


def put_session_by_key(operation: PutSession) -> Steps[int | None]:
    """The session first, then the index: each one step on its own server."""
    if operation.key is not None:
        put = Set(operation.key, operation.value, operation.ttl_ms, operation.only_if)
        if not (yield from PLANS[Set](put)):
            return None
    count: int | None = yield from PLANS[PutSession](replace(operation, key=None, value=""))
    return count


def leaves_a_trace(part: Iterable[Bucket]) -> bool:
    """Is there something among these buckets that cannot be given back exactly?"""
    return any(bucket.rule.algorithm in LEAVE_A_TRACE for bucket in part)


class ClusterBackend(CommandBackend):
    """A cluster that ``seeds`` know of, found on first use.

    ``open_node`` makes the backend of the server at an address, ``remap`` an address that
    can be reached of one that the cluster tells. ``async_client``, where there is one, is
    the caller's own, on the caller's own loop.
    """

    plans: ClassVar[dict[type[Operation[Any]], PlanOf]] = {
        **PLANS,
        Consume: consume_by_key,
        GetMany: get_by_key,
        PutSession: put_session_by_key,
    }

    def __init__(
        self,
        seeds: Sequence[Address],
        open_node: Callable[[str, int], Node],
        *,
        remap: Callable[[str, int], Address] = lambda host, port: (host, port),
        async_client: "aioredis.RedisCluster | None" = None,
    ) -> None:
        self._seeds = seeds
        self._open_node = open_node
        self._remap = remap
        self._async_client = async_client
        self._nodes: dict[Address, Node] = {}
        # Threads and loops share what is known. Nobody waits for it: if two ask at once,
        # either answer will do.
        self._known: Topology | None = None
        self._is_doubtful = False
        self._ask_again_at = 0.0
        server = self._node(seeds[0]).location.removesuffix("/0")
        self.location = f"the cluster at {server}"

    @classmethod
    def on_client(
        cls, client: RedisCluster, async_client: "aioredis.RedisCluster | None" = None
    ) -> Self:
        """A backend on the connections of a cluster client of the caller's."""

        def open_node(host: str, port: int) -> Node:
            node = client.get_node(host, port) or ClusterNode(host, port)  # type: ignore[no-untyped-call]
            return Node(client.get_redis_connection(node))

        seeds = [(node.host, node.port) for node in client.get_primaries()]  # type: ignore[no-untyped-call]
        remap = client.nodes_manager.remap_host_port
        return cls(seeds, open_node, remap=remap, async_client=async_client)

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

    def _send(self, sending: Sending) -> Any:
        node = self._node(sending.address)
        return (node.perform_asking if sending.asking else node.perform)(sending.command)

    async def _asend(self, sending: Sending) -> Any:
        if self._async_client is not None:
            return await self._send_by(self._async_client, sending)
        node = self._node(sending.address)
        perform = node.aperform_asking if sending.asking else node.aperform
        return await perform(sending.command)

    async def _send_by(self, client: aioredis.RedisCluster, sending: Sending) -> Any:
        """Send by the caller's client, which repeats nothing for a server that it is told."""
        await client.initialize()
        node = client.get_node(*sending.address)
        if node is None:
            await client.nodes_manager.initialize()
            node = client.get_node(*sending.address)
        if node is None:
            raise RedisConnectionError("the cluster client does not know of the server")
        if sending.command[0] == "SCAN":  # the client makes a dictionary of the cursor
            return await node.execute_command(*sending.command)
        moves = client.reinitialize_counter
        reply = await client.execute_command(*sending.command, target_nodes=node)
        # It follows redirections by itself, but here too they should not last.
        self._is_doubtful |= client.reinitialize_counter != moves
        return reply

    def _node(self, address: Address) -> Node:
        node = self._nodes.get(address)
        # Of two threads that come here at once, one's is never used.
        return node or self._nodes.setdefault(address, self._open_node(*address))

    def _route(self, command: Command) -> Plan[Sending, Any]:
        match command:
            case ("SCAN", cursor, *options):
                return (yield from self._scan(cursor, options))
            case (("DEL" | "UNLINK") as name, *keys) if len(keys) > 1:
                removed = 0
                for key in keys:
                    removed += yield from self._route((name, key))
                return removed
            case ("EVALSHA" | "EVAL", _, _, key, *_) | (_, key, *_):
                slot = key_slot(key.encode() if isinstance(key, str) else key)
            case _:
                slot = 0
        topology = yield from self._topology()
        return (yield from self._to_slot(topology, slot, command))

    def _scan(self, position: int, options: list[Any]) -> Plan[Sending, Any]:
        """One page of a walk from server to server, by their lowest slots.

        The cursor holds that slot beside the server's own cursor, so that a walk goes on
        where it was when a slot has a new server.
        """
        topology = yield from self._topology(anew=position == 0)
        starts = sorted(topology.lowest.values())
        cursor, slot = divmod(position, SLOTS)
        if position == 0:
            slot = starts[0]
        cursor, keys = yield from self._to_slot(topology, slot, ("SCAN", cursor, *options))
        if not cursor:
            slot = next((start for start in starts if start > slot), 0)
        return int(cursor) * SLOTS + slot, keys

    def _to_slot(self, topology: Topology, slot: int, command: Command) -> Plan[Sending, Any]:
        """Send a command to the server that holds a slot, and on to where that refers it to."""
        address, asking = topology.owners[slot], False
        if address is None:
            self._is_doubtful = True
            raise RedisConnectionError(f"no server holds slot {slot}")
        for _ in range(MAX_REDIRECTIONS):
            try:
                return (yield Sending(address, command, asking))
            except Exception as error:
                self._is_doubtful = True
                redirection = redirection_of(error)
                if redirection is None:
                    raise
                address = self._remap(redirection.host or address[0], redirection.port)
                asking = not isinstance(redirection, MovedError)
                if not asking:
                    topology.owners[slot] = address
        raise ClusterError("the servers refer to each other")

    def _topology(self, *, anew: bool = False) -> Plan[Sending, Topology]:
        """Who holds which slots, as far as that is known; ``anew`` asks in any case."""
        known = self._known
        now = time.monotonic()
        if known and not anew and not (self._is_doubtful and now >= self._ask_again_at):
            return known
        self._ask_again_at = now + ASK_AGAIN_SECONDS
        failure: Exception = RedisConnectionError("there is no server to ask")
        # Without an answer what is known has to do: only one is asked, whatever a server
        # that is away would cost.
        candidates = [*self._seeds, *known.lowest] if known else self._seeds
        for address in random.sample(candidates, 1 if known else len(candidates)):
            try:
                reply = yield Sending(address, ("CLUSTER", "SLOTS"))
                self._known = known = read_topology(reply, address[0], self._remap)
            except Exception as error:  # noqa: BLE001  # raised below
                failure = error
            else:
                self._is_doubtful = False
                break
        if known is None:
            raise failure
        return known


def read_topology(reply: Any, host: str, remap: Callable[[str, int], Address]) -> Topology:
    """What CLUSTER SLOTS says; a server that is named by its port alone is at ``host``."""
    topology = Topology([None] * SLOTS, {})
    for start, end, (name, port, *_), *_ in reply:
        address = remap(text(name) if name else host, int(port))
        topology.owners[start : end + 1] = [address] * (end + 1 - start)
        topology.lowest[address] = min(start, topology.lowest.get(address, start))
    if not topology.lowest:
        raise RedisConnectionError("the server is in no cluster yet")
    return topology


def redirection_of(error: Exception) -> AskError | None:
    """Where to go instead, if that is what the server says.

    The first versions of redis-py have their cluster client alone make classes of it.
    """
    if isinstance(error, AskError):
        return error
    word, _, rest = str(error).partition(" ")
    kind = {"ASK": AskError, "MOVED": MovedError}.get(word)
    return kind(rest) if kind and isinstance(error, ResponseError) else None
