"""Records as JSON, byte for byte as RustAuth has them."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from rustauth_django.engine.records import dump, load, moment, read_time, write_time
from rustauth_django.verification.records import Verification

AT = datetime(2026, 6, 5, 12, 34, 56, tzinfo=UTC)
WIRE = (
    '{"id":"id_1","identifier":"reset-password:abc123","value":"grüße \\"🔑\\"\\n",'
    '"expires_at":"2026-06-05T12:34:56.5Z","created_at":"2026-06-05T12:34:56Z",'
    '"updated_at":"2026-06-05T12:34:56.000001Z"}'
)
RECORD = Verification(
    id="id_1",
    identifier="reset-password:abc123",
    value='grüße "🔑"\n',
    expires_at=AT + timedelta(milliseconds=500),
    created_at=AT,
    updated_at=AT + timedelta(microseconds=1),
)


def test_a_record_is_written_to_the_byte() -> None:
    """VER-01, PORT-06: compact, in this order, UTF-8 as it is, no trailing zeros."""
    assert RECORD.to_json() == WIRE
    assert Verification.from_json(WIRE) == RECORD


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-06-05T12:34:56Z", AT),
        ("2026-06-05t12:34:56z", AT),
        ("2026-06-05T12:34:56.5Z", AT.replace(microsecond=500_000)),
        ("2026-06-05T12:34:56.12345678Z", AT.replace(microsecond=123_456)),
        ("2026-06-05T12:34:56.123456789Z", AT.replace(microsecond=123_456)),
        ("2026-06-05T14:34:56+02:00", AT),
    ],
)
def test_times_are_read_with_up_to_nine_digits(text: str, expected: datetime) -> None:
    """PORT-06: as RustAuth writes them, and in UTC."""
    assert read_time(text) == expected
    assert read_time(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        *("", "2026-06-05", "2026-06-05T12:34:56", "2026-W23-5T12:34:56Z", "20260605T123456Z"),
        *("2026-06-05T12:34:56.1234567890Z", "2026-06-05T12:34:56.Z", "2026-13-05T12:34:56Z"),
        *("2026-06-05T12:34:56Z\n", "٢٠٢٦-06-05T12:34:56Z", "0001-01-01T00:00:00+01:00"),
        *(None, 1780662896, ["2026-06-05T12:34:56Z"]),
    ],
)
def test_other_times_are_none(text: Any) -> None:
    """What fromisoformat would take beyond RFC 3339 is refused."""
    with pytest.raises(ValueError, match="."):
        read_time(text)


def test_times_are_written_in_utc() -> None:
    """Wherever they come from."""
    assert write_time(AT.astimezone(timezone(timedelta(hours=-7)))) == "2026-06-05T12:34:56Z"
    assert write_time(moment(1_700_000_000_120)) == "2023-11-14T22:13:20.12Z"


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "null", "[]", '"text"', "{", "[" * 100_000, WIRE[:-1], WIRE + "x"),
        WIRE.replace('"id_1"', "1"),
        WIRE.replace('"id":"id_1",', ""),
        WIRE.replace("id_1", "\\ud800"),
        WIRE.replace("2026-06-05T12:34:56Z", "yesterday"),
        WIRE.replace('"2026-06-05T12:34:56Z"', "null"),
    ],
)
def test_what_cannot_be_read_is_nothing(text: str | None) -> None:
    """A corrupt record raises nothing."""
    assert Verification.from_json(text) is None


def test_unknown_fields_are_passed_over() -> None:
    """SESS-01: and so are they in every record."""
    assert Verification.from_json(WIRE.replace('{"id"', '{"data":{"a":[1]},"id"')) == RECORD
    assert load(dump({"none": None, "text": "größe"})) == {"none": None, "text": "größe"}


def test_what_json_cannot_hold_is_an_error() -> None:
    """Nothing is made into text on the way."""
    for thing in (AT, object(), b"", float("nan")):
        with pytest.raises((TypeError, ValueError)):
            dump({"thing": thing})


def test_a_record_shows_no_secret() -> None:
    """In plain, its name has the token in it."""
    assert "abc123" not in repr(RECORD)
    assert "grüße" not in repr(RECORD)
