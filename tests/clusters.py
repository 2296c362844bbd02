"""A real Redis Cluster on loopback: three servers that share the slots."""

import time
from typing import Any, Self

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.crc import key_slot

from .servers import BINARIES, Server, free_port

SIZE = 3
# Redis 6.2 has its bus at the port plus 10,000, which need not be free.
ABLE = [name for name in BINARIES if name != "redis-6.2"]


class Cluster:
    """Three primaries without replicas; ``start`` again after ``kill`` comes back, empty."""

    def __init__(self) -> None:
        self.servers: list[Server] = []

    @property
    def url(self) -> str:
        """One of the servers: it tells the others."""
        return self.servers[0].plain_url

    def start(self) -> Self:
        try:
            if self.servers:
                for server in self.servers:
                    server.start()
            else:
                self._form()
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def _form(self) -> None:
        buses = []
        for number in range(SIZE):
            buses.append(free_port())
            options = ["--cluster-enabled", "yes", "--cluster-port", str(buses[-1])]
            self.servers.append(Server(ABLE[0], *options).start())
            first, last = number * SLOTS // SIZE, (number + 1) * SLOTS // SIZE - 1
            self.tell(number, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            self.tell(number, "CLUSTER", "ADDSLOTSRANGE", first, last)
        for server, bus in zip(self.servers, buses, strict=True):
            self.tell(0, "CLUSTER", "MEET", "127.0.0.1", server.port, bus)

    def _wait(self) -> None:
        # A server that has just started takes two seconds until it says so.
        deadline = time.monotonic() + 60
        for number in range(SIZE):
            while b"cluster_state:ok" not in self.tell(number, "CLUSTER", "INFO"):
                assert time.monotonic() < deadline, "the servers do not come together"
                time.sleep(0.02)

    def tell(self, number: int, *command: Any) -> Any:
        """A command for one of the servers, and its reply as it came."""
        with redis.Redis(port=self.servers[number].port, socket_timeout=30) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def owner(self, key: str) -> int:
        """Which of the servers holds a physical key."""
        slot = key_slot(key.encode())
        for first, last, (_, port, *_), *_ in self.tell(0, "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return [server.port for server in self.servers].index(port)
        raise AssertionError(f"nobody holds slot {slot}")

    def take_over(self, source: int, target: int) -> None:
        """Have one server hold the slots of another that is dead, as its replica would."""
        heir = self.tell(target, "CLUSTER", "MYID")
        port = self.servers[source].port
        with redis.Redis(port=self.servers[target].port, socket_timeout=30) as client:
            pipe = client.pipeline(transaction=False)
            for first, last, (_, holder, *_), *_ in self.tell(target, "CLUSTER", "SLOTS"):
                if holder == port:
                    for slot in range(first, last + 1):
                        pipe.execute_command("CLUSTER", "SETSLOT", slot, "NODE", heir)
            pipe.execute_command("CLUSTER", "BUMPEPOCH")
            pipe.execute()

    def kill(self) -> None:
        """End all of them, as a power cut would."""
        for server in self.servers:
            server.kill()

    def stop(self) -> None:
        # Asked to end, a server may wait for its replicas for seconds.
        self.kill()
        for server in self.servers:
            server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
