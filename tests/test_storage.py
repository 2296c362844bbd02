"""SecondaryStorage: contract ST and KEY, on every backend and with both faces."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from enum import StrEnum
from typing import Any

import pytest

from rustauth_django import InvalidConfig, RustAuthStores, SecondaryStorage
from rustauth_django.engine.backends import Backend
from rustauth_django.engine.operations import CompareAndSet, Get, Set

from .conftest import Clock
from .faces import Face


def race(
    stores: RustAuthStores, runner: asyncio.Runner | None, *calls: tuple[Any, ...]
) -> list[Any]:
    """Start calls ``(method, *args)`` at once, in threads or in tasks; their results."""
    storage = stores.secondary_storage
    if runner is None:
        with ThreadPoolExecutor(len(calls)) as pool:
            futures = [pool.submit(getattr(storage, name), *args) for name, *args in calls]
            return [future.result() for future in futures]

    async def gather() -> list[Any]:
        return await asyncio.gather(*(getattr(storage, f"a{name}")(*args) for name, *args in calls))

    return runner.run(gather())


def test_get_returns_what_was_set(storage: Face) -> None:
    """ST-01: the exact string, or None."""
    assert storage.get("absent") is None
    for value in ("", "value", "\x00\n\t", "grüße 🔑", "x" * 100_000):
        storage.set("key", value, 60)
        assert storage.get("key") == value


def test_set_without_ttl_removes_an_earlier_one(storage: Face) -> None:
    """ST-02: no ttl means no expiry, whatever was there before."""
    storage.set("key", "value", 60)
    assert storage.ttl("key") == 60
    storage.set("key", "value", None)
    assert storage.ttl("key") is None
    assert storage.get("key") == "value"


def test_a_value_expires(storage: Face) -> None:
    """ST-03: after its ttl, and not before."""
    storage.set("short-lived", "value", 0.2)
    storage.set("longer", "value", 60)
    assert storage.get("short-lived") == "value"
    time.sleep(0.25)
    assert storage.get("short-lived") is None
    assert storage.ttl("short-lived") is None
    assert storage.list_keys() == ["longer"]


def test_ttl_zero_means_expired_already(storage: Face) -> None:
    """ST-04, ST-37: set with ttl 0 removes what is there and stores nothing."""
    storage.set("ttl-zero", "stale", 60)
    storage.set("ttl-zero", "value", 0)
    assert storage.get("ttl-zero") is None
    storage.set("ttl-zero", "value", 0)
    assert storage.list_keys() == []


@pytest.mark.parametrize(
    "ttl", [2**63, 2**63 - 1, 10**18, 9_223_372_036_854_776, 1e308, float("inf")]
)
def test_a_ttl_that_no_server_holds_is_refused(storage: Face, ttl: float) -> None:
    """ST-05, ST-41: before any I/O, for every way to set; the old value stays."""
    storage.set("key", "old", 60)
    for name, args in [
        ("set", ("key", "new")),
        ("set_if_not_exists", ("other", "new")),
        ("set_if_exists", ("key", "new")),
        ("compare_and_set", ("key", "old", "new")),
    ]:
        with pytest.raises(InvalidConfig, match="^secondary storage ttl must fit in i64$"):
            getattr(storage, name)(*args, ttl)
    assert storage.get("key") == "old"


def test_the_longest_ttls_are_kept(storage: Face) -> None:
    """ST-05: 10**15 seconds is a ttl like any other."""
    for name, args in [("set", ("key", "v")), ("compare_and_set", ("key", "v", "w"))]:
        getattr(storage, name)(*args, 10**15)
        assert 10**15 - 5 < storage.ttl("key") <= 10**15


def test_a_negative_ttl_is_refused(storage: Face) -> None:
    """PORT-02: neither 0 nor None is meant."""
    for ttl in (-1, -0.5, timedelta(seconds=-1), float("-inf")):
        with pytest.raises(InvalidConfig, match="must not be negative"):
            storage.set("key", "value", ttl)
    with pytest.raises(InvalidConfig, match="NaN"):
        storage.set("key", "value", float("nan"))


def test_a_ttl_may_be_finer_than_a_second(storage: Face) -> None:
    """Floats and timedeltas count in milliseconds; what is left is rounded up."""
    for ttl in (1.5, timedelta(milliseconds=1500)):
        storage.set("key", "value", ttl)
        assert storage.ttl("key") == 2


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("get", (1,)),
        ("get", (b"key",)),
        ("get", (None,)),
        ("set", ("key", 1)),
        ("set", ("key", None)),
        ("set", ("key", b"value")),
        ("set", ("key", "value", True)),
        ("set", ("key", "value", "60")),
        ("set_if_not_exists", ("key", "value", False)),
        ("compare_and_set", ("key", 1, "value")),
        ("compare_and_set", ("key", "a", 1)),
        ("delete_if_value", ("key", 1)),
        ("take", (1,)),
        ("ttl", (1,)),
        ("delete", (1,)),
    ],
)
def test_wrong_types_are_a_type_error(storage: Face, name: str, args: tuple[Any, ...]) -> None:
    """PORT-02: never a stored surprise, and a bool is no number."""
    with pytest.raises(TypeError):
        getattr(storage, name)(*args)
    assert storage.list_keys() == []


class Color(StrEnum):
    RED = "red"


def test_subclasses_of_str_are_stored_as_text(storage: Face) -> None:
    """What comes back is a plain str, on every backend."""
    storage.set(Color.RED, Color.RED, 60)
    value = storage.get("red")
    assert (value, type(value)) == ("red", str)
    assert storage.compare_and_set("red", Color.RED, Color.RED)
    assert storage.delete_if_value(Color.RED, Color.RED)


def test_operations_show_no_secrets() -> None:
    """Tracebacks print what is at hand."""
    shown = repr(
        [Set("key", "s3cr3t", None), CompareAndSet("k", "s3cr3t", "s3cr3t", 1), Get("s3cr3t")]
    )
    assert "s3cr3t" not in shown


def test_text_that_utf8_cannot_hold_is_a_value_error(storage: Face) -> None:
    """A lone surrogate is refused as a key and as a value, on every backend."""
    for name, args in [("set", ("\ud800", "value")), ("set", ("key", "\udcff"))]:
        with pytest.raises(ValueError, match="surrogates not allowed"):
            getattr(storage, name)(*args)


def test_delete_is_idempotent(storage: Face) -> None:
    """ST-06: no error and no answer, whether or not the key was there."""
    storage.set("key", "value", 60)
    assert storage.delete("key") is None
    assert storage.delete("key") is None
    assert storage.get("key") is None


def test_set_if_not_exists_stores_only_once(storage: Face) -> None:
    """ST-08: the first value stays."""
    assert storage.set_if_not_exists("existing", "first", 60) is True
    assert storage.set_if_not_exists("existing", "second", 60) is False
    assert storage.get("existing") == "first"


def test_set_if_not_exists_has_one_winner(
    stores: RustAuthStores, runner: asyncio.Runner | None
) -> None:
    """ST-09, ST-40: of many at once, exactly one, in memory too."""
    calls = [("set_if_not_exists", "key", str(i), 60) for i in range(16)]
    won = race(stores, runner, *calls)
    assert won.count(True) == 1
    assert stores.secondary_storage.get("key") == str(won.index(True))


def test_set_if_not_exists_with_ttl_zero_does_nothing(storage: Face) -> None:
    """ST-10: neither creates nor deletes."""
    storage.set("stale", "stale", 60)
    assert storage.set_if_not_exists("stale", "value", 0) is False
    assert storage.get("stale") == "stale"
    assert storage.set_if_not_exists("absent", "value", 0) is False
    assert storage.get("absent") is None


def test_set_if_not_exists_without_ttl_does_not_expire(storage: Face) -> None:
    """ST-11: and an expired key counts as absent."""
    storage.set("key", "old", 0.05)
    time.sleep(0.08)
    assert storage.set_if_not_exists("key", "new") is True
    assert storage.ttl("key") is None


def test_set_if_exists_never_creates(storage: Face) -> None:
    """What was deleted stays so; what is there gets the new value and ttl."""
    assert storage.set_if_exists("key", "value", 60) is False
    assert storage.get("key") is None
    storage.set("key", "old")
    assert storage.set_if_exists("key", "new", 60) is True
    assert storage.get("key") == "new"
    assert storage.ttl("key") == 60
    assert storage.set_if_exists("key", "gone", 0) is True
    assert storage.get("key") is None
    assert storage.set_if_exists("key", "gone", 0) is False


def test_take_returns_a_value_once(storage: Face) -> None:
    """ST-12: it is gone with the answer."""
    storage.set("key", "value", 60)
    assert storage.take("key") == "value"
    assert storage.take("key") is None
    assert storage.get("key") is None


def test_take_has_one_winner(stores: RustAuthStores, runner: asyncio.Runner | None) -> None:
    """ST-13: of many at once, exactly one gets the value."""
    stores.secondary_storage.set("key", "value", 60)
    taken = race(stores, runner, *[("take", "key")] * 16)
    assert sorted(taken, key=str) == [None] * 15 + ["value"]


def test_take_never_removes_what_it_did_not_return(
    stores: RustAuthStores, runner: asyncio.Runner | None
) -> None:
    """ST-14: a value written meanwhile is still there (50 rounds)."""
    storage = stores.secondary_storage
    for _ in range(50):
        storage.set("key", "old", 60)
        taken, _ = race(stores, runner, ("take", "key"), ("set", "key", "new", 60))
        assert storage.get("key") == ("new" if taken == "old" else None)


def test_compare_and_set_follows_a_chain(storage: Face) -> None:
    """ST-16: None means absent."""
    assert storage.compare_and_set("key", None, "created", 60) is True
    assert storage.compare_and_set("key", None, "again", 60) is False
    assert storage.compare_and_set("key", "created", "updated", 60) is True
    assert storage.get("key") == "updated"
    assert storage.compare_and_set("key", "created", "late", 60) is False


def test_compare_and_set_tells_none_from_empty(storage: Face) -> None:
    """ST-17, PORT-03: an empty value is a value."""
    assert storage.compare_and_set("key", "", "value") is False
    storage.set("key", "")
    assert storage.compare_and_set("key", None, "value") is False
    assert storage.compare_and_set("key", "", "value") is True
    assert storage.get("key") == "value"


def test_compare_and_set_has_one_winner(
    stores: RustAuthStores, runner: asyncio.Runner | None
) -> None:
    """ST-18: of many from one seed, exactly one, and its value stays."""
    stores.secondary_storage.set("key", "seed", 60)
    won = race(stores, runner, *[("compare_and_set", "key", "seed", str(i), 60) for i in range(16)])
    assert won.count(True) == 1
    assert stores.secondary_storage.get("key") == str(won.index(True))


def test_compare_and_set_with_ttl_zero_deletes_a_match(storage: Face) -> None:
    """ST-19, ST-20, ST-21: and nothing else; there is nothing to match in None."""
    storage.set("key", "value", 60)
    assert storage.compare_and_set("key", "other", "new", 0) is False
    assert storage.get("key") == "value"
    assert storage.compare_and_set("key", "value", "new", 0) is True
    assert storage.get("key") is None
    assert storage.compare_and_set("key", None, "new", 0) is False
    assert storage.get("key") is None


def test_compare_and_set_never_keeps_the_ttl(storage: Face) -> None:
    """ST-22: None removes it, a number sets it."""
    storage.set("key", "a", 60)
    assert storage.compare_and_set("key", "a", "b") is True
    assert storage.ttl("key") is None
    assert storage.compare_and_set("key", "b", "c", 30) is True
    assert storage.ttl("key") == 30


def test_delete_if_value_deletes_only_a_match(storage: Face) -> None:
    """ST-23, ST-24: None matches nothing, not even an absent key."""
    storage.set("key", "value", 60)
    assert storage.delete_if_value("key", None) is False
    assert storage.delete_if_value("absent", None) is False
    assert storage.delete_if_value("key", "other") is False
    assert storage.get("key") == "value"
    assert storage.delete_if_value("key", "value") is True
    assert storage.delete_if_value("key", "value") is False
    assert storage.get("key") is None


def test_delete_if_value_has_one_winner(
    stores: RustAuthStores, runner: asyncio.Runner | None
) -> None:
    """ST-25: of many at once, exactly one."""
    stores.secondary_storage.set("key", "value", 60)
    assert race(stores, runner, *[("delete_if_value", "key", "value")] * 16).count(True) == 1


def test_list_keys_returns_logical_names(storage: Face) -> None:
    """ST-26: without prefix and namespace, whatever characters they are of; "" is one (KEY-10)."""
    names = ["session:token-1", "verification:user@example.com", "", "a b\n", "*?[]\\", "ключ"]
    for name in names:
        storage.set(name, "value", 60)
    assert sorted(storage.list_keys()) == sorted(names)
    assert sorted(storage.iter_keys()) == sorted(names)


def test_scans_follow_every_page(storage: Face) -> None:
    """ST-27, ST-34, QUIRK-15: thousands of keys, each once; clear counts them."""
    names = {f"key-{i}" for i in range(3000)}
    for name in names:
        storage.target.set(name, "value", 60)
    listed = storage.list_keys()
    assert len(listed) == 3000
    assert set(listed) == names
    assert storage.clear() == 3000
    assert storage.list_keys() == []


def test_clear_of_nothing_is_zero(storage: Face) -> None:
    """ST-28: and no error."""
    assert storage.clear() == 0


def test_clear_keeps_other_prefixes(
    stores: RustAuthStores, prefix: str, runner: asyncio.Runner | None
) -> None:
    """ST-29, ST-30, KEY-09: a prefix is text, even one full of glob characters."""
    for own, other in [("first:", "second:"), (":*?[]\\:", ":neighbor:"), (":g^-x", ":g^")]:
        backend: Backend = stores.backend
        first = Face(SecondaryStorage(backend, key_prefix=prefix + own), runner)
        second = Face(SecondaryStorage(backend, key_prefix=prefix + other), runner)
        first.set("shared", "first", 60)
        second.set("shared", "second", 60)
        assert first.list_keys() == ["shared"]
        assert first.clear() == 1
        assert first.get("shared") is None
        assert second.get("shared") == "second"


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("list_keys", ()),
        ("iter_keys", ()),
        ("clear", ()),
        ("get", ("key",)),
        ("set", ("key", "value", 60)),
        ("delete", ("key",)),
        ("take", ("key",)),
        ("ttl", ("key",)),
        ("set_if_not_exists", ("key", "value")),
        ("set_if_exists", ("key", "value")),
        ("compare_and_set", ("key", None, "value", 0)),
        ("compare_and_set", ("key", "old", "value")),
        ("delete_if_value", ("key", "value")),
    ],
)
def test_an_empty_prefix_is_refused_before_io(
    unconnected: RustAuthStores, runner: asyncio.Runner | None, name: str, args: tuple[Any, ...]
) -> None:
    """ST-32: by everything that would need a key; ST-33: and before the scan count."""
    storage = Face(SecondaryStorage(unconnected.backend, key_prefix="", scan_count=0), runner)
    with pytest.raises(InvalidConfig, match="^secondary storage key prefix must not be empty$"):
        getattr(storage, name)(*args)


def test_delete_if_value_of_none_needs_nothing(
    unconnected: RustAuthStores, runner: asyncio.Runner | None
) -> None:
    """ST-23, ST-32: it is False before the prefix is looked at."""
    storage = Face(SecondaryStorage(unconnected.backend, key_prefix=""), runner)
    assert storage.delete_if_value("key", None) is False


@pytest.mark.parametrize("name", ["list_keys", "iter_keys", "clear"])
def test_a_zero_scan_count_is_refused_before_io(
    unconnected: RustAuthStores, runner: asyncio.Runner | None, name: str
) -> None:
    """ST-33: by what scans."""
    storage = Face(SecondaryStorage(unconnected.backend, scan_count=0), runner)
    with pytest.raises(
        InvalidConfig, match="^secondary storage scan count must be greater than zero$"
    ):
        getattr(storage, name)()


def test_a_zero_scan_count_matters_to_scans_only(
    stores: RustAuthStores, prefix: str, runner: asyncio.Runner | None
) -> None:
    """ST-33: get and set have no use for it."""
    storage = Face(SecondaryStorage(stores.backend, key_prefix=prefix, scan_count=0), runner)
    storage.set("key", "value", 60)
    assert storage.get("key") == "value"


def test_a_prefix_and_a_scan_count_have_types(memory: RustAuthStores) -> None:
    """A wrong type is told at once, not by the first scan."""
    with pytest.raises(TypeError, match="key_prefix"):
        SecondaryStorage(memory.backend, key_prefix=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="scan_count"):
        SecondaryStorage(memory.backend, scan_count=True)


def test_memory_drops_what_has_expired(memory: RustAuthStores, clock: Clock) -> None:
    """ST-36: an entry whose time is now is gone, for every operation."""
    storage = memory.secondary_storage
    for name in "abcdef":
        storage.set(name, "value", 10)
    clock.now_ms += 9_999
    assert storage.ttl("a") == 1
    clock.now_ms += 1
    assert storage.get("a") is None
    assert storage.take("b") is None
    assert storage.set_if_exists("c", "new") is False
    assert storage.set_if_not_exists("d", "new") is True
    assert storage.compare_and_set("e", "value", "new") is False
    assert storage.delete_if_value("f", "value") is False
    assert storage.list_keys() == ["d"]
    assert storage.clear() == 1


def test_memory_gives_expired_values_back(memory: RustAuthStores, clock: Clock) -> None:
    """Values that nobody asks for again do not pile up."""
    storage = memory.secondary_storage
    for i in range(20_000):
        storage.set(f"key-{i}", "value", 1)
        clock.now_ms += 10
    assert len(memory.backend._memory._values) < 3_000  # type: ignore[attr-defined]
