"""A one-time token, as it is stored."""

from dataclasses import dataclass, field
from datetime import datetime

from ..engine.records import dump, load, read_text, read_time, write_time


@dataclass(frozen=True, slots=True)
class Verification:
    """A one-time token, as it is stored (VER-01).

    ``value`` is the caller's value, ``identifier`` the name under which it is stored, usually a
    hash (VER-02); times are in UTC.
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
        """The stored record; None if there is none, or if it cannot be read."""
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
