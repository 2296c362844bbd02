"""A socket and hiredis, and nothing else: what no client can undercut by much."""

import socket
from typing import Any, Self
from urllib.parse import urlsplit

import hiredis

#: The smallest script that limits anything: count, and forget after a while.
SMALLEST = """
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return count
"""


class Wire:
    """One connection."""

    def __init__(self, url: str) -> None:
        server = urlsplit(url)
        self._socket = socket.create_connection((server.hostname, server.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def ask(self, packed: bytes) -> Any:
        """Send what ``pack_command`` made, and wait for the reply."""
        self._socket.sendall(packed)
        return self.read()

    def read(self) -> Any:
        """The next reply, or line of ``MONITOR``."""
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(65_536))
        return reply

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
