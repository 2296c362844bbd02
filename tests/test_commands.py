"""The commands, as an operator runs them on real servers; in a process where that matters."""

import io
import itertools
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import redis
from django.core.management import CommandError, ManagementUtility, call_command
from django.test import override_settings

from rustauth_django import RateLimitRule, RustAuthStores, secondary_storage
from rustauth_django.management import base
from rustauth_django.management.base import StoresCommand

from .servers import BINARIES, Server

ROOT = Path(__file__).parent.parent
# Makes as many values as it is told, faster than a client could.
FILL = """
for i = 1, ARGV[1] do redis.call('SET', 'rustauth:secondary:' .. i, '', 'EX', 600) end
"""


def environment(url: str) -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "RUSTAUTH_TEST_URL": url,
        "PYTHONWARNINGS": "error",
        "PYTHONUNBUFFERED": "",
    }


def start(url: str, *args: str, **kwargs: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "manage.py", *args]
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment(url)}
    return subprocess.Popen(command, cwd=ROOT, text=True, **{**both, **kwargs})


def manage_in_process(url: str, *args: str) -> subprocess.CompletedProcess[str]:
    """What a process says and how it ends."""
    process = start(url, *args, stdin=subprocess.DEVNULL)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(args, process.returncode, out, err)


def manage(url: str, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """What ``manage.py`` would say and how it would end, without the time a process takes."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    code: Any = 0
    typed, sys.stdin = sys.stdin, io.StringIO(stdin)
    try:
        with redirect_stdout(out), redirect_stderr(err), override_settings(RUSTAUTH={"URL": url}):
            ManagementUtility().fetch_command(args[0]).run_from_argv(["manage.py", *args])
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdin = typed
    for stream in (out, err):
        stream.seek(0)
    return subprocess.CompletedProcess(args, code, out.read(), err.read())


@pytest.fixture
def url(one_server: Server) -> Iterator[str]:
    """Of an empty server, which a test that fails leaves empty as well."""
    with redis.Redis.from_url(one_server.url) as raw:
        raw.flushdb()
        yield one_server.url
        raw.flushdb()


@pytest.fixture
def filled(url: str) -> str:
    """Three values and two buckets."""
    with RustAuthStores.from_url(url) as stores:
        for key in ("session:a", "session:b"):
            stores.secondary_storage.set(key, "value", 60)
        stores.secondary_storage.set("verification:x", "value")
        for key in ("192.0.2.1|/x", "192.0.2.1|/y"):
            stores.rate_limit_store.consume(key, RateLimitRule(60, 1))
    return url


def count(url: str) -> tuple[int, int]:
    """How many values and how many buckets there are."""
    with redis.Redis.from_url(url) as raw:
        values = len(raw.keys("rustauth:secondary:*"))
        return values, len(raw.keys("rustauth:rate-limit:*"))


MASKED = ["session:a***", "session:b***", "verification:x***"]


def test_list_keys_lists_what_is_there(filled: str) -> None:
    """Logical names, a line each, and nothing else on either stream."""
    result = manage(filled, "rustauth_list_keys")
    assert sorted(result.stdout.splitlines()) == MASKED
    assert (result.stderr, result.returncode) == ("", 0)


def test_list_keys_selects(filled: str) -> None:
    """--match, --limit and --ttl, in any combination."""
    result = manage(filled, "rustauth_list_keys", "--match", "session:*")
    assert sorted(result.stdout.splitlines()) == MASKED[:2]
    result = manage(filled, "rustauth_list_keys", "--match", "session:*", "--limit", "1", "--ttl")
    (line,) = result.stdout.splitlines()
    key, ttl = line.split("\t")
    assert key.startswith("session:")
    assert 30 < int(ttl) <= 60
    result = manage(filled, "rustauth_list_keys", "--match", "verification:*", "--ttl")
    assert result.stdout == "verification:x***\t-\n"


def test_list_keys_speaks_json(filled: str) -> None:
    """One array, even of nothing."""
    result = manage(filled, "rustauth_list_keys", "--format", "json", "--ttl")
    listed = {item["key"]: item["ttl"] for item in json.loads(result.stdout)}
    assert listed.keys() == set(MASKED)
    assert listed["verification:x***"] is None
    result = manage(filled, "rustauth_list_keys", "--format", "json", "--match", "session:a")
    assert json.loads(result.stdout) == [{"key": "session:a***"}]
    result = manage(filled, "rustauth_list_keys", "--format", "json", "--match", "none")
    assert json.loads(result.stdout) == []


def test_list_keys_shows_tokens_if_they_are_wanted(url: str) -> None:
    """Otherwise four characters; a user's id is none."""
    token = "k3XaQ9TnR7bYw2LsGd5HcJ"
    names = [f"session:{token}", "session:user:7", f"verification:{token}", "own:" + token]
    with redis.Redis.from_url(url) as raw:
        for name in names:
            raw.set(f"rustauth:secondary:{name}", "value", ex=60)
    masked = ["own:" + token, "session:k3Xa***", "session:user:7", "verification:k3Xa***"]
    for options in ([], ["--ttl"], ["--format", "json"]):
        shown = manage(url, "rustauth_list_keys", *options).stdout
        assert all(name in shown for name in masked)
        assert f"session:{token}" not in shown
        shown = manage(url, "rustauth_list_keys", "--show-tokens", *options).stdout
        assert all(name in shown for name in names)


@pytest.mark.parametrize("limit", ["0", "-1", "x", ""])
def test_list_keys_wants_a_number(url: str, limit: str) -> None:
    """A limit that is none is an error of usage."""
    result = manage(url, "rustauth_list_keys", f"--limit={limit}")
    assert result.returncode == 2
    assert "is not a number above zero" in result.stderr


def test_odd_characters_harm_no_terminal(url: str) -> None:
    """Control characters, right-to-left marks and foreign bytes are escaped; letters are not."""
    with redis.Redis.from_url(url) as raw:
        for key in (b"a\x1b[2Jb\nc", "grüße".encode(), b"\xff\xfe", "x\u202ey".encode()):
            raw.set(b"rustauth:secondary:" + key, "value", ex=60)
    result = manage(url, "rustauth_list_keys", "--ttl")
    assert result.returncode == 0
    listed = sorted(line.split("\t")[0] for line in result.stdout.splitlines())
    assert listed == [r"\udcff\udcfe", r"a\x1b[2Jb\nc", "grüße", r"x\u202ey"]


@pytest.mark.slow
def test_a_terminal_that_is_ascii_gets_ascii(url: str) -> None:
    """Letters that it cannot show are escaped."""
    with redis.Redis.from_url(url) as raw:
        raw.set("rustauth:secondary:grüße", "value", ex=60)
    ascii_only = {**environment(url), "PYTHONIOENCODING": "ascii"}
    process = start(url, "rustauth_list_keys", env=ascii_only)
    assert process.communicate(timeout=30) == ("gr\\xfc\\xdfe\n", "")


@pytest.mark.slow
def test_a_full_disk_is_one_clear_line(filled: str) -> None:
    """Not a traceback."""
    with open("/dev/full", "w") as full:
        process = start(filled, "rustauth_list_keys", stdout=full)
        _, err = process.communicate(timeout=30)
    assert err == "CommandError: Cannot write: No space left on device.\n"
    assert process.returncode == 1


def test_check_finds_a_server_that_cannot_be_used() -> None:
    """A replica answers, and stores nothing."""
    with Server(next(iter(BINARIES))) as server:
        with redis.Redis.from_url(server.url) as raw:
            raw.replicaof("127.0.0.1", 1)
        result = manage(server.url, "rustauth_check")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "/0: secondary set failed: " in line


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_is_no_error(url: str) -> None:
    """| head: no traceback, no complaint, however many keys there are."""
    with redis.Redis.from_url(url) as raw:
        raw.eval(FILL, 0, 10_000)
    for options in ([], ["--format", "json"]):
        process = start(url, "rustauth_list_keys", *options)
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        process.stderr.close()
        assert process.wait(timeout=30) == 0
    result = manage(url, "rustauth_clear", "--no-input")
    assert result.stdout.startswith("Removed 10,000 stored values under 'rustauth:secondary:' at ")
    assert result.stderr == ""


def test_clear_asks_first(filled: str) -> None:
    """Only yes is yes; the end of input is no, and says so in a line."""
    for answer in ("no\n", "y\n", "\n", "YES\n", ""):
        result = manage(filled, "rustauth_clear", stdin=answer)
        assert result.returncode == 1
        assert result.stderr == "CommandError: Cancelled; nothing was removed.\n"
        assert "all stored values under 'rustauth:secondary:' at redis://127.0.0.1" in result.stdout
    assert count(filled) == (3, 2)
    result = manage(filled, "rustauth_clear", stdin="yes\n")
    assert result.returncode == 0
    assert "Removed 3 stored values" in result.stdout
    assert count(filled) == (0, 2)


def test_clear_can_count_only(filled: str) -> None:
    """--dry-run asks nothing and removes nothing."""
    result = manage(filled, "rustauth_clear", "--dry-run")
    assert result.stdout.startswith("Would remove 3 stored values under 'rustauth:secondary:' at")
    result = manage(filled, "rustauth_clear", "--dry-run", "--rate-limits")
    assert result.stdout.startswith(
        "Would remove 2 rate limits under 'rustauth:rate-limit:' and 'rustauth:limits:' at "
    )
    assert count(filled) == (3, 2)


def test_clear_rate_limits_clears_those_instead(filled: str) -> None:
    """Sessions stay."""
    result = manage(filled, "rustauth_clear", "--rate-limits", "--no-input")
    assert result.stdout.startswith(
        "Removed 2 rate limits under 'rustauth:rate-limit:' and 'rustauth:limits:' at "
    )
    assert count(filled) == (3, 0)
    assert manage(filled, "rustauth_clear", "--noinput").stdout.startswith("Removed 3 stored")
    assert count(filled) == (0, 0)
    assert manage(filled, "rustauth_clear", "--no-input").stdout.startswith("Removed 0 stored")


def test_ctrl_c_leaves_a_truthful_count(url: str) -> None:
    """What was removed until then, on a terminal that showed how far it was."""
    total = 50_000
    with redis.Redis.from_url(url) as raw:
        raw.eval(FILL, 0, total)
        primary, secondary = pty.openpty()
        # One key a page: slow enough to be interrupted, on any machine.
        slowly = {**environment(url), "RUSTAUTH_TEST_SCAN_COUNT": "1"}
        process = start(url, "rustauth_clear", "--no-input", stderr=secondary, env=slowly)
        os.close(secondary)
        shown = b""
        while b"Removed" not in shown:
            shown += os.read(primary, 1024)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        while b"until then" not in shown:
            shown += os.read(primary, 1024)
        os.close(primary)
        assert process.stdout is not None
        assert process.stdout.read() == ""
        process.stdout.close()
        text = shown.decode()
        assert "Traceback" not in text
        removed = int(text.partition("Interrupted: removed ")[2].split(" ")[0].replace(",", ""))
        left = raw.dbsize()
        assert total - left - removed == 0
        assert left > 0


def interrupted_total(struck_at: int) -> tuple[str, int, bool]:
    """What the command said, what was done, and did it come so far as to be struck?"""
    command, said, done, seen = StoresCommand(stderr=io.StringIO()), "", 0, 0

    def counts() -> Iterator[int]:
        nonlocal done
        for step in (3, 4, 5):
            done += step
            yield step

    def strike(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal seen
        if frame.f_code.co_filename != base.__file__:
            return None
        frame.f_trace_opcodes = True
        seen += 1
        if seen == struck_at:
            signal.raise_signal(signal.SIGINT)
        return strike

    sys.settrace(strike)
    try:
        command.total("Removed", counts())
    except CommandError as error:
        said = str(error)
    except KeyboardInterrupt:
        pass  # before the first step, or after the last
    finally:
        sys.settrace(None)
    return said, done, seen >= struck_at


def test_ctrl_c_loses_no_count_at_any_moment() -> None:
    """Wherever it strikes: at each line and bytecode, the count is of what was done."""
    told = 0
    for struck_at in itertools.count(1):
        said, done, is_struck = interrupted_total(struck_at)
        if not is_struck:
            break
        assert said in ("", f"Interrupted: removed {done} until then.")
        told += said != ""
    assert told > 10


@pytest.mark.django_db
@pytest.mark.parametrize(
    "args",
    [
        ["rustauth_unblock", "\ud800"],
        ["rustauth_explain", "/\ud800"],
        ["rustauth_sessions", "list", "--user", "\ud800"],
        ["rustauth_sessions", "revoke", "--user", "\ud800"],
    ],
)
def test_an_argument_that_is_no_text_is_told_in_a_line(args: list[str]) -> None:
    """As where a terminal sends what is no UTF-8."""
    said = ""
    try:
        call_command(*args, stdout=io.StringIO())
    except CommandError as error:
        said = str(error)
    assert "\n" not in said
    assert said.isascii()


@pytest.mark.parametrize("match", ["*", "nothing"])
@pytest.mark.slow
def test_ctrl_c_ends_a_listing(url: str, match: str) -> None:
    """At once and quietly, even while nothing is found."""
    with redis.Redis.from_url(url) as raw:
        raw.eval(FILL, 0, 50_000)
        slowly = {**environment(url), "RUSTAUTH_TEST_SCAN_COUNT": "1"}
        calls = raw.info("commandstats").get("cmdstat_scan", {}).get("calls", 0)
        process = start(url, "rustauth_list_keys", "--match", match, env=slowly)
        while raw.info("commandstats").get("cmdstat_scan", {}).get("calls", 0) < calls + 100:
            pass
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert (err, process.returncode) == ("", 130)


@pytest.mark.slow
def test_a_server_that_dies_leaves_a_truthful_count() -> None:
    """What was removed until then is said, as it is after Ctrl-C."""
    with Server(next(iter(BINARIES))) as server:
        with redis.Redis.from_url(server.url) as raw:
            raw.eval(FILL, 0, 50_000)
        primary, secondary = pty.openpty()
        slowly = {**environment(server.url), "RUSTAUTH_TEST_SCAN_COUNT": "1"}
        process = start(server.url, "rustauth_clear", "--no-input", stderr=secondary, env=slowly)
        os.close(secondary)
        shown = b""
        while b"Removed" not in shown:
            shown += os.read(primary, 1024)
        server.kill()
        while b"until then" not in shown:
            shown += os.read(primary, 1024)
        os.close(primary)
        assert process.communicate(timeout=30)[0] == ""
        assert process.returncode == 1
        assert re.search(rb"failed: .*; removed [\d,]+ until then\.", shown)


@pytest.mark.slow
def test_clear_without_any_input_is_cancelled(filled: str) -> None:
    """Even if there is no standard input at all."""
    command = [sys.executable, "manage.py", "rustauth_clear"]
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *command]
    result = subprocess.run(
        closed, cwd=ROOT, env=environment(filled), capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr.endswith("CommandError: Cancelled; nothing was removed.\n")
    assert count(filled) == (3, 2)


class Full(io.StringIO):
    """A stream of a caller's that takes no more."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


@override_settings(RUSTAUTH={"URL": "memory://"})
def test_commands_called_from_code(capfd: pytest.CaptureFixture[str]) -> None:
    """Streams and options that a caller passes are the caller's."""
    secondary_storage.set("key", "value", 60)
    out = io.StringIO()
    for limit in (1, "1", 10**30):
        call_command("rustauth_list_keys", limit=limit, stdout=out)
    assert out.getvalue() == "key\n" * 3
    with pytest.raises(BrokenPipeError):
        call_command("rustauth_list_keys", stdout=Full())
    os.write(1, b"still here")
    assert capfd.readouterr().out == "still here"


def test_check_does_without_info() -> None:
    """A user that may not ask who is there can work all the same."""
    with Server(next(iter(BINARIES))) as server:
        with redis.Redis.from_url(server.url) as raw:
            raw.execute_command("ACL", "SETUSER", "default", "-info")
            raw.close()
        result = manage(server.url, "rustauth_check")
    assert result.returncode == 0
    assert "a server of unknown kind" in result.stdout


def test_check_says_who_is_there(server: Server) -> None:
    """Server, version, mode, latency; no warning where there is nothing to warn of."""
    result = manage(server.url, "rustauth_check")
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"redis://127.0.0.1:{server.port}/0 answers: ")
    assert lines[0].split(": ")[1].split(" ")[0] in ("valkey", "redis")
    assert lines[1] == "mode: standalone"
    assert lines[2].startswith("latency: ")
    assert lines[3] == "eviction policy: noeviction"
    assert len(lines) == 4
    assert (result.stderr, result.returncode) == ("", 0)


def test_check_warns_of_eviction() -> None:
    """A server that may throw sessions away works, with a warning."""
    with Server(next(iter(BINARIES)), "--maxmemory-policy", "allkeys-lru") as server:
        result = manage(server.url, "rustauth_check")
    assert "warning: when memory runs out" in result.stdout
    assert result.returncode == 0


def test_check_of_memory_warns() -> None:
    """It answers, and says what it is."""
    result = manage("memory://", "rustauth_check")
    assert result.stdout.startswith("memory:// answers: memory\n")
    assert "for development only" in result.stdout


@pytest.mark.parametrize(
    "args",
    [
        ["rustauth_check"],
        ["rustauth_list_keys"],
        ["rustauth_list_keys", "--format", "json"],
        ["rustauth_clear", "--no-input"],
        ["rustauth_clear", "--dry-run"],
    ],
)
def test_a_server_that_is_away_is_one_clear_line(args: list[str]) -> None:
    """Exit code 1, and no traceback; nor is a password told."""
    result = manage("redis://user:secret@127.0.0.1:1/0", *args)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("CommandError: redis://127.0.0.1:1/0: ")
    assert "secret" not in result.stderr + result.stdout


def test_wrong_settings_are_one_clear_line() -> None:
    """With the setting's path."""
    result = manage_in_process("http://user:secret@host", "rustauth_check")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith('CommandError: RUSTAUTH["URL"]: the URL must start with one of redis://')


@pytest.mark.slow
def test_a_server_that_dies_midway_is_one_clear_line() -> None:
    """A walk that is cut off says so."""
    with Server(next(iter(BINARIES))) as server:
        with redis.Redis.from_url(server.url) as raw:
            raw.eval(FILL, 0, 300_000)
        process = start(server.url, "rustauth_list_keys")
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        server.kill()
        process.stdout.read()
        (line,) = process.stderr.read().splitlines()
        assert line.startswith(f"CommandError: redis://127.0.0.1:{server.port}/0: scan failed: ")
        assert process.wait(timeout=30) == 1
        process.stdout.close()
        process.stderr.close()
