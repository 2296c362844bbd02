"""What is stored as JSON, byte for byte as RustAuth writes it (PORT-06).

Compact, in the order of the fields, UTF-8 as it is; points in time in RFC 3339 and UTC,
without trailing zeros. Who reads is lenient: fields that are not known are passed over,
and what cannot be read is nothing.
"""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

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
    except UnicodeEncodeError:  # half a pair, as anybody may send it in JSON
        return json.dumps(fields, allow_nan=False, separators=(",", ":"))
    return text


def load(text: str) -> dict[str, Any]:
    """The fields of a stored record. Raises ``ValueError`` if it is none."""
    try:
        fields = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")
    return fields


def read_text(text: Any) -> str:
    """A field that is text, and that UTF-8 can hold. Raises ``ValueError``."""
    if not isinstance(text, str):
        raise ValueError("not text")
    text.encode()
    return text


@dataclass(frozen=True, slots=True)
class Verification:
    """A one-time token, as it is stored (VER-01).

    ``value`` is what it was made with, ``identifier`` the name under which it is stored, as
    a rule a hash (VER-02); points in time are in UTC.
    """

    id: str
    identifier: str = field(repr=False)
    value: str = field(repr=False)
    expires_at: datetime
    created_at: datetime
    updated_at: datetime

    def to_json(self) -> str:
        return dump(
            {
                "id": self.id,
                "identifier": self.identifier,
                "value": self.value,
                "expires_at": write_time(self.expires_at),
                "created_at": write_time(self.created_at),
                "updated_at": write_time(self.updated_at),
            }
        )

    @classmethod
    def from_json(cls, text: str | None) -> "Verification | None":
        """A stored record; None if there is none, or none that can be read."""
        if text is None:
            return None
        try:
            fields = load(text)
            return cls(
                id=read_text(fields["id"]),
                identifier=read_text(fields["identifier"]),
                value=read_text(fields["value"]),
                expires_at=read_time(fields["expires_at"]),
                created_at=read_time(fields["created_at"]),
                updated_at=read_time(fields["updated_at"]),
            )
        except (KeyError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A login session (SESS-01), and Django's own dictionary in ``data``.

    RustAuth neither writes nor reads ``data``; None says that there was none. A visitor who
    is not signed in has an empty ``user_id``. Times are aware.
    """

    id: str
    user_id: str
    expires_at: datetime
    token: str = field(repr=False)
    ip_address: str | None = field(repr=False)
    user_agent: str | None
    created_at: datetime
    updated_at: datetime
    data: dict[str, Any] | None = field(default=None, repr=False)

    def to_json(self) -> str:
        """Raises ``TypeError`` or ``ValueError`` if JSON cannot hold the data."""
        record: dict[str, Any] = {
            "id": self.id,
            "user_id": self.user_id,
            "expires_at": write_time(self.expires_at),
            "token": self.token,
            "ip_address": self.ip_address,
            "user_agent": self.user_agent,
            "created_at": write_time(self.created_at),
            "updated_at": write_time(self.updated_at),
        }
        if self.data is not None:
            record["data"] = self.data
        return dump(record)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """A record that was stored. Raises ``ValueError`` if it is corrupt."""
        found = load(text)
        data = found.get("data")
        return cls(
            id=read_text(found.get("id")),
            user_id=read_text(found.get("user_id")),
            expires_at=read_time(found.get("expires_at")),
            token=read_text(found.get("token")),
            ip_address=_optional(found.get("ip_address")),
            user_agent=_optional(found.get("user_agent")),
            created_at=read_time(found.get("created_at")),
            updated_at=read_time(found.get("updated_at")),
            data=data if isinstance(data, dict) else None,
        )


def _optional(text: Any) -> str | None:
    return None if text is None else read_text(text)


def read_index(text: str | None) -> list[str]:
    """The tokens of an index (SESS-02), each once; none of one that is corrupt (QUIRK-04).

    Half a pair is no token: no key and no script could be told of it.
    """
    try:
        found = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return []
    tokens = found if isinstance(found, list) else []
    texts = (token for token in tokens if isinstance(token, str) and token.isprintable())
    return list(dict.fromkeys(texts))


def write_index(tokens: list[str]) -> str:
    """Tokens as an index has them."""
    return json.dumps(tokens, separators=(",", ":"), ensure_ascii=False)
