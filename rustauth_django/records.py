"""RustAuth's records as JSON: compact, in snake_case, with times as RFC 3339 in UTC."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self


def to_rfc3339(time: datetime) -> str:
    """A time as RustAuth writes it: UTC, ``Z``, no trailing zeros."""
    text = time.astimezone(UTC).isoformat().removesuffix("+00:00")
    return (text.rstrip("0") if "." in text else text) + "Z"


def from_rfc3339(text: Any) -> datetime:
    """A time of up to nine digits below the second. Raises ``ValueError`` for what is none."""
    if not isinstance(text, str) or text[10:11] != "T":
        raise ValueError("not a time in RFC 3339")
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("not a time in RFC 3339")
    return time if time.tzinfo is UTC else time.astimezone(UTC)


def dump(record: dict[str, Any]) -> str:
    """Compact JSON as serde writes it. Raises ``TypeError`` for what JSON cannot hold."""
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def load(text: str) -> dict[str, Any]:
    """A JSON object. Raises ``ValueError`` for anything else."""
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(found, dict):
        raise ValueError("not an object")  # of the text, not of the argument
    return found


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
        """The record as it is stored. Raises ``TypeError`` or ``ValueError`` if JSON cannot."""
        record: dict[str, Any] = {
            "id": self.id,
            "user_id": self.user_id,
            "expires_at": to_rfc3339(self.expires_at),
            "token": self.token,
            "ip_address": self.ip_address,
            "user_agent": self.user_agent,
            "created_at": to_rfc3339(self.created_at),
            "updated_at": to_rfc3339(self.updated_at),
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
            id=_text(found, "id"),
            user_id=_text(found, "user_id"),
            expires_at=from_rfc3339(found.get("expires_at")),
            token=_text(found, "token"),
            ip_address=_optional_text(found, "ip_address"),
            user_agent=_optional_text(found, "user_agent"),
            created_at=from_rfc3339(found.get("created_at")),
            updated_at=from_rfc3339(found.get("updated_at")),
            data=data if isinstance(data, dict) else None,
        )


def _text(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is not text")  # of the record, not of an argument
    return value


def _optional_text(record: dict[str, Any], name: str) -> str | None:
    return None if record.get(name) is None else _text(record, name)


def read_index(text: str | None) -> list[str]:
    """The tokens of an index (SESS-02), each once; none of one that is corrupt (QUIRK-04)."""
    try:
        found = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return []
    tokens = found if isinstance(found, list) else []
    return list(dict.fromkeys(token for token in tokens if isinstance(token, str)))


def write_index(tokens: list[str]) -> str:
    """Tokens as an index has them."""
    return json.dumps(tokens, separators=(",", ":"), ensure_ascii=False)
