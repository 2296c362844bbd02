"""A site under test, under WSGI or under ASGI, on any backend."""

import asyncio
from typing import Any

from django.test import AsyncClient, Client, override_settings

from rustauth_django.connections import get_stores
from rustauth_django.engine.operations import Scan


class PeerClient(AsyncClient):
    """An async test client that can come from anywhere, or from nowhere."""

    peer: tuple[str, int] | None = ("127.0.0.1", 0)

    def _base_scope(self, **request: Any) -> dict[str, Any]:
        # Django's client hands over bytes as Latin-1, which is WSGI's way, not ASGI's.
        request["path"] = request["path"].encode("latin-1").decode()
        scope = super()._base_scope(client=self.peer, **request)
        # It also sends an empty header of cookies, which Django 5.2 joins with one of a test's own.
        scope["headers"] = [pair for pair in scope["headers"] if pair != (b"cookie", b"")]
        return scope


class Site:
    """The test site under one protocol; ``configure`` sets RUSTAUTH["RATE_LIMIT"]."""

    def __init__(
        self, url: str, prefix: str, runner: asyncio.Runner | None, **settings: Any
    ) -> None:
        self.runner = runner
        self.settings = settings
        self.base = {"URL": url, "KEY_PREFIX": prefix}
        self.client: Any = PeerClient() if runner else Client()
        self.client.raise_request_exception = False
        self.overrides: list[Any] = []
        self.configure()

    def configure(self, **rate_limit: Any) -> None:
        rustauth = {**self.base, "RATE_LIMIT": rate_limit}
        override = override_settings(RUSTAUTH=rustauth, **self.settings)
        override.enable()
        self.overrides.append(override)

    def request(
        self,
        method: str,
        path: str,
        data: Any = None,
        *,
        peer: str | None = "127.0.0.1",
        json: Any = None,
        **headers: str,
    ) -> Any:
        """``data`` is a form's, ``json`` a body's; headers have underscores."""
        more: dict[str, Any] = {} if data is None else {"data": data}
        if json is not None:
            more = {"data": json, "content_type": "application/json"}
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        send = getattr(self.client, method.lower())
        if self.runner is None:
            return send(path, headers=names, **more, REMOTE_ADDR=peer or "")
        self.client.peer = (peer, 1234) if peer else None
        return self.runner.run(send(path, headers=names, **more))

    def send(self, method: str, path: str, **more: Any) -> Any:
        """As the test client takes it."""
        send = getattr(self.client, method.lower())
        return send(path, **more) if self.runner is None else self.runner.run(send(path, **more))

    def get(self, path: str, *args: Any, **kwargs: Any) -> Any:
        return self.request("GET", path, *args, **kwargs)

    def post(self, path: str, *args: Any, **kwargs: Any) -> Any:
        return self.request("POST", path, *args, **kwargs)

    def statuses(self, method: str, path: str, count: int, *args: Any, **kwargs: Any) -> list[int]:
        return [self.request(method, path, *args, **kwargs).status_code for _ in range(count)]

    def buckets(self) -> list[str]:
        """The bucket names on the backend."""
        found = []
        for namespace in ("rate-limit", "limits"):
            root = f"{self.base['KEY_PREFIX']}{namespace}:"
            page = get_stores().backend.run(Scan(root, 0, 10_000))
            found += [key.removeprefix(root) for key in page.keys]
        return sorted(found)

    def close(self) -> None:
        while self.overrides:
            self.overrides.pop().disable()
