"""One-time tokens and codes: contract VER, on every backend and with both faces."""

import asyncio
import inspect
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from django.test import override_settings

from rustauth_django import InvalidConfig, RustAuthStores, secondary_storage, verification
from rustauth_django.engine.backends import Backend, MemoryBackend
from rustauth_django.engine.operations import Get, Operation
from rustauth_django.exceptions import BackendUnavailable
from rustauth_django.verification.records import Verification
from rustauth_django.verification.store import VerificationStore

from .conftest import Clock
from .faces import Face

# VER-03: what RustAuth has for this identifier.
IDENTIFIER = "reset-password:abc123"
STORED = "4d9efd15fdd7116b299fa95f42a84387fc7ae7f52ae3247b0889a2ebd1b22b82"
ADDRESS = "ada@example.com"


def store_on(stores: RustAuthStores, **options: Any) -> VerificationStore:
    prefix = stores.secondary_storage.keyspace.prefix
    return VerificationStore(stores.backend, secret="secret", key_prefix=prefix, **options)


@pytest.fixture
def tokens(stores: RustAuthStores, runner: asyncio.Runner | None) -> Face:
    """One-time tokens, on each backend and with each face."""
    return Face(store_on(stores), runner)


@pytest.fixture
def timed(stores: RustAuthStores, runner: asyncio.Runner | None, clock: Clock) -> Face:
    """The same, by a clock of which the server knows nothing."""
    return Face(store_on(stores, clock=clock, plain=["plain"]), runner)


class Together(Backend):
    """What the first so many calls read is told to them when all have read it."""

    location = "together"

    def __init__(self, backend: Backend, count: int) -> None:
        self.backend, self.left, self.lock = backend, count, threading.Lock()
        self.barriers = threading.Barrier(count), asyncio.Barrier(count)

    def waits(self, operation: Operation[Any]) -> bool:
        with self.lock:
            self.left -= isinstance(operation, Get)
            return isinstance(operation, Get) and self.left >= 0

    def run(self, operation: Operation[Any]) -> Any:
        answer = self.backend.run(operation)
        if self.waits(operation):
            self.barriers[0].wait(timeout=20)
        return answer

    async def arun(self, operation: Operation[Any]) -> Any:
        answer = await self.backend.arun(operation)
        if self.waits(operation):
            await self.barriers[1].wait()
        return answer

    def close(self) -> None:
        """Nothing of its own."""

    async def aclose(self) -> None:
        """Nothing of its own."""


def race(tokens: Face, name: str, calls: list[tuple[str, ...]]) -> list[Any]:
    """Call a method so often at once, in threads or in tasks; its answers."""
    if tokens.runner is None:
        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(lambda call: getattr(tokens, name)(*call), calls))

    async def gather() -> list[Any]:
        return await asyncio.gather(*(getattr(tokens.target, f"a{name}")(*c) for c in calls))

    return tokens.runner.run(gather())


def value(found: Verification | None) -> str | None:
    return found and found.value


def other(code: str, step: int = 1) -> str:
    """A code of the same length that is not the right one."""
    return f"{(int(code) + step) % 10 ** len(code):0{len(code)}}"


def test_a_token_works_once(tokens: Face) -> None:
    """VER-06: and brings back what it was made with."""
    token = tokens.create("reset-password", "grüße 🔑", ttl=60)
    assert re.fullmatch(r"[A-Za-z0-9]{24}", token)
    assert token != tokens.create("reset-password", "grüße 🔑", ttl=60)
    assert value(tokens.consume("reset-password", token)) == "grüße 🔑"
    assert tokens.consume("reset-password", token) is None


def test_a_token_is_bound_to_its_purpose(tokens: Face) -> None:
    """For another one it does nothing, and is not used up."""
    token = tokens.create("magic-link", ttl=60)
    for purpose in ("reset-password", "magic", "magic-link2", "MAGIC-LINK"):
        assert tokens.peek(purpose, token) is None
        assert tokens.consume(purpose, token) is None
        assert not tokens.revoke(purpose, token)
    assert value(tokens.consume("magic-link", token)) == ""


def test_looking_uses_nothing_up(tokens: Face) -> None:
    """VER-05: and tells the same as taking."""
    token = tokens.create("p", "value", ttl=60)
    seen = [tokens.peek("p", token) for _ in range(3)]
    assert seen == [tokens.consume("p", token)] * 3
    assert tokens.peek("p", token) is None


def test_a_revoked_token_is_nothing(tokens: Face) -> None:
    """VER-07: and revoking goes as often as one likes."""
    token = tokens.create("p", ttl=60)
    assert tokens.revoke("p", token)
    assert not tokens.revoke("p", token)
    assert tokens.consume("p", token) is None


def test_the_key_and_the_value_are_rustauths(
    timed: Face, storage: Face, runner: asyncio.Runner | None, stores: RustAuthStores, clock: Clock
) -> None:
    """VER-01 to VER-03: hashed, or plain for the purposes that a RustAuth service reads."""
    plain = Face(store_on(stores, clock=clock, plain=["reset-password"]), runner)
    for face, stored in ((timed, STORED), (plain, IDENTIFIER)):
        token = face.create("reset-password", "user_1", ttl=300, identifier="abc123")
        assert token == "abc123"
        found = face.peek("reset-password", token)
        assert storage.get(f"verification:{stored}") == (
            f'{{"id":"{found.id}","identifier":"{stored}","value":"user_1",'
            '"expires_at":"2023-11-14T22:18:20Z","created_at":"2023-11-14T22:13:20Z",'
            '"updated_at":"2023-11-14T22:13:20Z"}'
        )
        assert re.fullmatch(r"[A-Za-z0-9]{32}", found.id)
        assert found.expires_at - found.created_at == timedelta(seconds=300)
    assert sorted(storage.list_keys()) == [f"verification:{STORED}", f"verification:{IDENTIFIER}"]


def test_a_token_that_rustauth_made_works_here(
    tokens: Face, storage: Face, stores: RustAuthStores, runner: asyncio.Runner | None
) -> None:
    """KEY-06, VER-04: under its hash, or in plain where the setting says so."""
    wire = (
        '{{"id":"v1","identifier":"{0}","value":"user_1",'
        '"expires_at":"2126-06-05T12:34:56.123456789Z","created_at":"2026-06-05T12:34:56Z",'
        '"updated_at":"2026-06-05T12:34:56Z","new":null}}'
    )
    plain = Face(store_on(stores, plain=["reset-password"]), runner)
    for face, stored in ((tokens, STORED), (plain, IDENTIFIER)):
        storage.set(f"verification:{stored}", wire.format(stored), 60)
        assert value(face.consume("reset-password", "abc123")) == "user_1"
        assert storage.list_keys() == []


def test_every_key_has_the_ttl_of_its_token(tokens: Face, storage: Face) -> None:
    """VER-15: five minutes are 298 to 300 seconds, for codes also after a wrong guess."""
    tokens.create("p", ttl=300)
    code = tokens.create_code("p", ADDRESS, ttl=timedelta(minutes=5))
    tokens.consume_code("p", ADDRESS, other(code))
    keys = storage.list_keys()
    assert len(keys) == 2
    assert all(298 <= storage.ttl(key) <= 300 for key in keys)


def test_an_expired_token_is_nothing(timed: Face, storage: Face, clock: Clock) -> None:
    """VER-05, VER-06: by its own record, even if the server still has it; it goes on sight."""
    seen, taken = (timed.create("p", ttl=60) for _ in range(2))
    code = timed.create_code("p", ADDRESS, ttl=60)
    clock.now_ms += 59_999
    assert timed.peek("p", seen)
    clock.now_ms += 1
    assert len(storage.list_keys()) == 3
    assert timed.peek("p", seen) is None
    assert timed.consume("p", taken) is None
    assert timed.consume_code("p", ADDRESS, code) is None
    assert len(storage.list_keys()) == 1


def test_the_server_drops_what_has_expired(clock: Clock) -> None:
    """By the ttl of the key, to the millisecond."""
    stores = RustAuthStores(MemoryBackend(clock=clock))
    tokens = store_on(stores, clock=clock)
    tokens.create("p", ttl=1.5)
    clock.now_ms += 1_499
    assert len(stores.secondary_storage.list_keys()) == 1
    clock.now_ms += 1
    assert stores.secondary_storage.list_keys() == []


def test_ttl_zero_has_expired_already(tokens: Face, storage: Face) -> None:
    """VER-11: nothing is stored, and what was there is gone."""
    tokens.create("p", ttl=60, identifier="x")
    for ttl in (0, 0.0001, timedelta()):
        token = tokens.create("p", ttl=ttl, identifier="x")
        assert tokens.consume("p", token) is None
    assert tokens.consume_code("p", "x", tokens.create_code("p", "x", ttl=0)) is None
    assert storage.list_keys() == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"ttl": None}, TypeError),
        ({"ttl": True}, TypeError),
        ({"ttl": -1}, InvalidConfig),
        ({"ttl": float("nan")}, InvalidConfig),
        ({"ttl": float("inf")}, InvalidConfig),
        ({"ttl": 10**15}, InvalidConfig),
        ({"purpose": 1}, TypeError),
        ({"purpose": ""}, InvalidConfig),
        ({"purpose": "a:b"}, InvalidConfig),
        ({"purpose": "a/code"}, InvalidConfig),
        ({"purpose": "p\n"}, InvalidConfig),
        ({"purpose": "p" * 65}, InvalidConfig),
        ({"purpose": "\ud800"}, InvalidConfig),
        ({"identifier": ""}, InvalidConfig),
        ({"identifier": 1}, TypeError),
        ({"identifier": "x" * 513}, InvalidConfig),
        ({"identifier": "s3cr3t\ud800"}, InvalidConfig),
        ({"value": None}, TypeError),
        ({"value": "s3cr3t\ud800"}, InvalidConfig),
        ({"value": "x" * 65_537}, InvalidConfig),
        ({"digits": 3}, InvalidConfig),
        ({"digits": 13}, InvalidConfig),
        ({"digits": "6"}, TypeError),
        ({"attempts": 0}, InvalidConfig),
        ({"attempts": 101}, InvalidConfig),
        ({"attempts": True}, TypeError),
    ],
)
def test_what_cannot_be_is_refused(
    unconnected: RustAuthStores,
    runner: asyncio.Runner | None,
    arguments: dict[str, Any],
    error: type[Exception],
) -> None:
    """Before any I/O, without quoting a value; no key lives for ever."""
    tokens = Face(store_on(unconnected), runner)
    given = {"purpose": "p", "identifier": "x", "value": "", "ttl": 60, **arguments}
    names = (
        ["create_code"] if {"digits", "attempts"} & set(arguments) else ["create", "create_code"]
    )
    for name in names:
        with pytest.raises(error) as caught:
            getattr(tokens, name)(**given)
        assert "s3cr3t" not in repr(caught.value)


def test_what_cannot_be_a_token_is_nothing(
    unconnected: RustAuthStores, runner: asyncio.Runner | None
) -> None:
    """Whatever a client sends: no error, and no server is asked."""
    tokens = Face(store_on(unconnected), runner)
    for token in ("", "x" * 513, "x" * 1_000_000, "\ud800"):
        assert tokens.consume("p", token) is None
        assert tokens.peek("p", token) is None
        assert not tokens.revoke("p", token)
        assert tokens.consume_code("p", token, "123456") is None
    for name in ("consume", "peek", "revoke"):
        with pytest.raises(TypeError):
            getattr(tokens, name)("p", None)
        with pytest.raises(InvalidConfig):
            getattr(tokens, name)("a:b", "x")
    with pytest.raises(InvalidConfig):
        tokens.consume_code("a:b", "x", "")


def test_odd_names_are_names(tokens: Face, timed: Face) -> None:
    """Hashed and in plain: each is its own, and no pattern."""
    names = [ADDRESS, "a:b", "grüße 🔑", "\x00\n", "*?[]\\", "x" * 512, "🔑" * 512, " "]
    faces = ((tokens, "p"), (timed, "plain"))
    for (face, purpose), identifier in product(faces, names):
        assert face.create(purpose, "value", ttl=60, identifier=identifier) == identifier
        assert face.consume(purpose, "abc") is None
        assert value(face.consume(purpose, identifier)) == "value"
        code = face.create_code(purpose, identifier, "value", ttl=60)
        assert value(face.consume_code(purpose, identifier, code)) == "value"


def test_a_corrupt_record_is_nothing(tokens: Face, storage: Face) -> None:
    """Whatever is at the key: no error, nobody is let in."""
    corrupt = ["", "null", "[]", "{", "5", '{"id":"x"}', '"text"', "[" * 50_000]
    for content in corrupt:
        storage.set(f"verification:{STORED}", content, 60)
        assert tokens.peek("reset-password", "abc123") is None
        assert tokens.consume("reset-password", "abc123") is None
    code = tokens.create_code("reset-password", ADDRESS, ttl=60)
    (key,) = storage.list_keys()
    wire = storage.get(key)
    without, none_left = wire.replace('"value":"5:', '"value":"'), wire.replace('"5:', '"0:')
    assert len({wire, without, none_left}) == 3
    for content in (*corrupt, without, none_left):
        storage.set(key, content, 60)
        assert tokens.consume_code("reset-password", ADDRESS, code) is None
    storage.set(key, wire, 60)
    assert tokens.consume_code("reset-password", ADDRESS, code)


def test_of_64_who_take_a_token_one_gets_it(tokens: Face) -> None:
    """VER-06: by GETDEL, which no two can win."""
    token = tokens.create("p", "value", ttl=60)
    found = race(tokens, "consume", [("p", token)] * 64)
    assert [value(one) for one in found if one] == ["value"]


@pytest.fixture
def guess_at_once(
    stores: RustAuthStores, runner: asyncio.Runner | None
) -> Callable[[list[str]], list[Any]]:
    """Type these codes at once, so that all see the same record."""

    def guess(codes: list[str]) -> list[Any]:
        prefix = stores.secondary_storage.keyspace.prefix
        together = Together(stores.backend, len(codes))
        tokens = VerificationStore(together, secret="secret", key_prefix=prefix)
        return race(Face(tokens, runner), "consume_code", [("p", ADDRESS, code) for code in codes])

    return guess


def test_of_64_who_type_the_code_one_is_let_in(
    tokens: Face, storage: Face, guess_at_once: Callable[[list[str]], list[Any]]
) -> None:
    """VER-08: of two that see the same record, one changes it."""
    code = tokens.create_code("p", ADDRESS, "value", ttl=60)
    assert [value(one) for one in guess_at_once([code] * 64) if one] == ["value"]
    assert storage.list_keys() == []


def test_of_16_guesses_at_once_each_counts(
    tokens: Face, storage: Face, guess_at_once: Callable[[list[str]], list[Any]]
) -> None:
    """VER-08: none is lost, so that nobody gets more attempts than there are."""
    code = tokens.create_code("p", ADDRESS, ttl=60, attempts=17)
    assert guess_at_once([other(code, step) for step in range(1, 17)]) == [None] * 16
    (key,) = storage.list_keys()
    assert '"value":"1:' in storage.get(key)
    assert tokens.consume_code("p", ADDRESS, code)


def test_64_guesses_at_once_are_no_more_than_five(
    tokens: Face, storage: Face, guess_at_once: Callable[[list[str]], list[Any]]
) -> None:
    """What is gone after five is gone for all that came along with them."""
    code = tokens.create_code("p", ADDRESS, ttl=60)
    assert guess_at_once([other(code, step) for step in range(1, 65)]) == [None] * 64
    assert storage.list_keys() == []
    assert tokens.consume_code("p", ADDRESS, code) is None


def test_a_wrong_guess_is_a_change(timed: Face, clock: Clock) -> None:
    """VER-07: and it does not make the code live for longer."""
    code = timed.create_code("p", ADDRESS, "value", ttl=60)
    clock.now_ms += 30_000
    assert timed.consume_code("p", ADDRESS, other(code)) is None
    found = timed.consume_code("p", ADDRESS, code)
    assert found.updated_at - found.created_at == timedelta(seconds=30)
    assert found.expires_at - found.created_at == timedelta(seconds=60)


def test_the_last_attempt_may_be_right(tokens: Face) -> None:
    """Four wrong ones and the right one; or five wrong ones and none."""
    for wrong in (4, 5):
        code = tokens.create_code("p", ADDRESS, "value", ttl=60)
        for step in range(1, wrong + 1):
            assert tokens.consume_code("p", ADDRESS, other(code, step)) is None
        assert value(tokens.consume_code("p", ADDRESS, code)) == (None if wrong == 5 else "value")


def test_a_code_is_for_whom_it_was_made(tokens: Face) -> None:
    """Not for another name or purpose, and such guesses are not held against it."""
    code = tokens.create_code("p", ADDRESS, ttl=60, attempts=1)
    assert tokens.consume_code("p", "grace@example.com", code) is None
    assert tokens.consume_code("q", ADDRESS, code) is None
    assert tokens.consume_code("p", ADDRESS, code)


def test_codes_and_tokens_are_apart(tokens: Face) -> None:
    """Nobody takes a code by its name alone, nor guesses at a token."""
    code = tokens.create_code("p", ADDRESS, "code", ttl=60)
    tokens.create("p", "token", ttl=60, identifier=ADDRESS)
    for name in (f"code:{ADDRESS}", f"/code:{ADDRESS}"):
        assert tokens.consume("p", name) is None
    assert value(tokens.consume("p", ADDRESS)) == "token"
    assert tokens.consume("p", ADDRESS) is None
    assert value(tokens.consume_code("p", ADDRESS, code)) == "code"


def test_a_new_code_takes_the_place_of_the_old(tokens: Face) -> None:
    """With as many attempts as at first."""
    codes = [tokens.create_code("p", ADDRESS, ttl=60, digits=12) for _ in range(2)]
    assert tokens.consume_code("p", ADDRESS, codes[0]) is None
    assert tokens.consume_code("p", ADDRESS, codes[1])


def test_a_code_is_typed_by_people(tokens: Face) -> None:
    """Blanks do not matter; what is no number is no attempt."""
    code = tokens.create_code("p", ADDRESS, ttl=60, attempts=1)
    assert re.fullmatch("[0-9]{6}", code)
    for typed in ("", "abcdef", code[:3], "١٢٣٤٥٦", "-12345", "1" * 13, "\ud800", "1" * 1_000_000):
        assert tokens.consume_code("p", ADDRESS, typed) is None
    assert tokens.consume_code("p", ADDRESS, f" {code[:3]} {code[3:]}\n")


def test_codes_keep_their_zeros() -> None:
    """All of them are as long as was asked, and as likely."""
    tokens = store_on(RustAuthStores.from_url("memory://"))
    codes = [tokens.create_code("p", ADDRESS, ttl=60, digits=4) for _ in range(500)]
    assert {len(code) for code in codes} == {4}
    assert {code[0] for code in codes} == set("0123456789")


def test_what_is_stored_opens_nothing(tokens: Face, storage: Face) -> None:
    """VER-02: neither a key nor a value has a token, a code or an address in it."""
    token = tokens.create("p", ttl=60)
    code = tokens.create_code("p", ADDRESS, "value", ttl=60, digits=12)
    for key in storage.list_keys():
        stored = key + storage.get(key)
        assert not any(secret in stored for secret in (token, code, ADDRESS, "secret"))


def test_another_secret_knows_no_code(stores: RustAuthStores) -> None:
    """The hash of six digits would tell them; that under a key does not."""
    tokens = store_on(stores)
    code = tokens.create_code("p", ADDRESS, ttl=60)
    prefix = stores.secondary_storage.keyspace.prefix
    stranger = VerificationStore(stores.backend, secret="another", key_prefix=prefix)
    assert stranger.consume_code("p", ADDRESS, code) is None
    assert tokens.consume_code("p", ADDRESS, code)


def test_errors_and_reprs_show_no_secret(dead_url: str, runner: asyncio.Runner | None) -> None:
    """Whoever reads a log learns nothing."""
    stores = RustAuthStores.from_url(dead_url)
    tokens = Face(store_on(stores, plain=["p"]), runner)
    for call in (
        lambda: tokens.create("p", "s3cr3t", ttl=60, identifier="s3cr3t"),
        lambda: tokens.consume("p", "s3cr3t"),
        lambda: tokens.create_code("p", "s3cr3t", ttl=60),
        lambda: tokens.consume_code("p", "s3cr3t", "314159"),
    ):
        with pytest.raises(BackendUnavailable) as caught:
            call()
        assert not re.search("s3cr3t|314159", f"{caught.value!r} {caught.value}")
    assert "secret" not in repr(tokens.target)


def test_the_functions_are_on_the_settings(
    backend_url: str, prefix: str, runner: asyncio.Runner | None
) -> None:
    """Each of them, and its twin; PLAIN_TOKENS says which are in plain."""
    settings = {"URL": backend_url, "KEY_PREFIX": prefix, "PLAIN_TOKENS": ["reset-password"]}
    face = Face(verification, runner)
    with override_settings(RUSTAUTH=settings):
        face.create("reset-password", "user_1", ttl=60, identifier="abc123")
        assert secondary_storage.list_keys() == [f"verification:{IDENTIFIER}"]
        assert value(face.peek("reset-password", "abc123")) == "user_1"
        assert value(face.consume("reset-password", "abc123")) == "user_1"
        assert face.revoke("p", face.create("p", ttl=60))
        code = face.create_code("p", ADDRESS, "value", ttl=60, digits=8, attempts=2)
        assert face.consume_code("p", ADDRESS, other(code)) is None
        assert value(face.consume_code("p", ADDRESS, code)) == "value"
        assert secondary_storage.list_keys() == []


def test_the_functions_are_the_methods() -> None:
    """Of the same parameters, with the same defaults."""
    for name in verification.__all__:
        if name != "Verification":
            method = getattr(VerificationStore, name)
            _, *parameters = inspect.signature(method).parameters.values()
            function = getattr(verification, name)
            assert list(inspect.signature(function).parameters.values()) == parameters
            assert inspect.iscoroutinefunction(function) == inspect.iscoroutinefunction(method)
