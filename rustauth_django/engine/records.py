"""Records stored as JSON, byte for byte as RustAuth writes them (PORT-06).

Compact, in the order of the fields, UTF-8 as it is; points in time in RFC 3339 and UTC, without
trailing zeros. Reading is lenient: unknown fields are skipped, and a record that cannot be read
counts as absent.
"""

import json
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def write_time(moment: datetime) -> str:
    """A point in time as it is stored: ``2026-06-05T12:34:56.5Z``."""
    text = moment.astimezone(UTC).isoformat(timespec="microseconds")
    return text.removesuffix("+00:00").rstrip("0").rstrip(".") + "Z"


def read_time(text: Any) -> datetime:
    """A stored point in time, in UTC, down to microseconds. Raises ``ValueError``."""
    if not isinstance(text, str) or not TIME.fullmatch(text):
        raise ValueError("not an RFC 3339 timestamp")
    try:
        time = datetime.fromisoformat(text.upper())
        return time if time.tzinfo is UTC else time.astimezone(UTC)
    except OverflowError:
        raise ValueError("before the first year or after the last") from None


def moment(epoch_ms: int) -> datetime:
    """Epoch milliseconds as a point in time. Raises ``OverflowError`` after the year 9999."""
    return EPOCH + timedelta(milliseconds=epoch_ms)


def dump(fields: dict[str, Any]) -> str:
    """A record as it is stored. Raises ``TypeError`` or ``ValueError`` if JSON cannot hold it."""
    text = json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON may contain
        return json.dumps(fields, allow_nan=False, separators=(",", ":"))
    return text


def load(text: str) -> dict[str, Any]:
    """The fields of a stored record. Raises ``ValueError`` if it is none."""
    try:
        # ``decode`` looks for white space by a slow search.
        text = text.strip(" \t\n\r")
        fields, end = DECODER.raw_decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if end != len(text) or not isinstance(fields, dict):
        raise ValueError("not a JSON object")
    return fields


def _finite(text: str) -> float:
    """A number that JSON can hold, and not NaN or Infinity, which Python reads as well."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not a number of JSON's")
    return number


# To give these arguments to ``json.loads`` would make a decoder for each record.
DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def read_text(text: Any) -> str:
    """A field that is text, and that UTF-8 can hold. Raises ``ValueError``."""
    if not isinstance(text, str):
        raise ValueError("not text")
    text.encode()
    return text
