"""A small proxy on loopback that treats the replies of a server badly."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

# What becomes of some bytes from the server: the pieces to pass on, and the seconds before each.
Treatment = Callable[[bytes], list[tuple[float, bytes]]]


def whole(data: bytes) -> list[tuple[float, bytes]]:
    """Passes everything on at once."""
    return [(0, data)]


def drip(seconds: float) -> Treatment:
    """One byte at a time, with a pause before each."""
    return lambda data: [(seconds, data[at : at + 1]) for at in range(len(data))]


def swallow(data: bytes) -> list[tuple[float, bytes]]:
    """Passes nothing on."""
    return []


class Proxy:
    """Passes on what clients send; ``treat`` says what becomes of the replies.

    ``cut_after`` bytes of a reply the connection is closed, if it is set.
    """

    def __init__(self, port: int) -> None:
        self.treat: Treatment = whole
        self.cut_after: int | None = None
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._open: list[socket.socket] = []
        self._is_closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:
                return
            self._open += [client, server]
            for source, target, is_reply in ((client, server, False), (server, client, True)):
                arguments = (source, target, is_reply)
                threading.Thread(target=self._pass_on, args=arguments, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_reply: bool) -> None:
        try:
            while data := source.recv(65_536):
                if is_reply and self.cut_after is not None:
                    target.sendall(data[: self.cut_after])
                    break
                for seconds, piece in self.treat(data) if is_reply else whole(data):
                    if seconds:
                        time.sleep(seconds)
                    if self._is_closed:
                        return
                    target.sendall(piece)
        except OSError:
            return
        finally:
            for end in (source, target):
                # So that the other direction ends as well.
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def close(self) -> None:
        self._is_closed = True
        for one in [self._listener, *self._open]:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Parrot:
    """A server that gives the same reply to every command."""

    def __init__(self, reply: bytes) -> None:
        self._reply = reply
        self.commands = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client:
            try:
                while data := client.recv(65_536):
                    for part in data.split(b"*")[1:]:
                        is_greeting = b"CLIENT" in part or b"SETINFO" in part
                        self.commands += not is_greeting
                        client.sendall(b"+OK\r\n" if is_greeting else self._reply)
            except OSError:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.close()
