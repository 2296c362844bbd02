"""A login session and the index of a user's sessions, as they are stored."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from ..engine.records import dump, load, read_text, read_time, write_time


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A login session (SESS-01), and Django's own dictionary in ``data``.

    RustAuth neither writes nor reads ``data``; None means that the field was missing. A visitor who
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
    """The tokens of an index (SESS-02), each once; a corrupt index has none (QUIRK-04). Text with
    half a surrogate pair is no token, since UTF-8 cannot encode it.
    """
    try:
        found = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return []
    tokens = found if isinstance(found, list) else []
    texts = (token for token in tokens if isinstance(token, str) and token.isprintable())
    return list(dict.fromkeys(texts))


def write_index(tokens: list[str]) -> str:
    """An index of these tokens, as it is stored."""
    return json.dumps(tokens, separators=(",", ":"), ensure_ascii=False)
