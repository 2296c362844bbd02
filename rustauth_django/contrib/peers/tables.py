"""Sessions in the tables of a Better Auth service, through one of Django's databases."""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, tzinfo
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import Error as DatabaseError
from django.db import connections, transaction

from ...conf.peers import DatabasePeer, Table
from ...engine.plans import Call, Plan
from ...engine.records import write_time
from ...exceptions import BackendUnavailable
from .readers import CookieReader
from .records import BetterAuthRecord
from .session import PeerSession

LABEL = "tables of a peer"
# The type of PostgreSQL's times with a zone, as drivers tell it.
TIMESTAMPTZ = 1184


class DatabaseReader(CookieReader):
    """Sessions and users as rows; this one only reads, twice at most."""

    def __init__(self, peer: DatabasePeer) -> None:
        super().__init__(peer)
        self._tables = peer.alias, peer.sessions, peer.users

    def read(self, token: str) -> Plan[Call, PeerSession | None]:
        found: BetterAuthRecord | None = yield Call(read_record, (*self._tables, token))
        return None if found is None else found.session(self.peer.name, token, datetime.now(UTC))


def read_record(alias: str, sessions: Table, users: Table, token: str) -> BetterAuthRecord | None:
    """The session of a token with its user, as a record of Better Auth's would have them. Raises
    ``BackendUnavailable``.
    """
    try:
        # An error would end a transaction of the view's.
        with transaction.atomic(using=alias) if is_in_transaction(alias) else nullcontext():
            session = read_row(alias, sessions, "token", token)
            user = session and read_row(alias, users, "id", session.get("userId"))
    except DatabaseError as error:
        raise BackendUnavailable(LABEL, type(error).__name__) from None
    # A session whose user is gone is nobody's.
    return BetterAuthRecord(session, user) if session and user else None


def is_in_transaction(alias: str) -> bool:
    return bool(connections[alias].in_atomic_block)


def read_row(alias: str, table: Table, field: str, value: Any) -> dict[str, Any] | None:
    """The row with this value in a column, under the names that Better Auth has for its fields;
    None if there is none, or more than one.
    """
    connection = connections[alias]
    quote = connection.ops.quote_name
    whose = f"{quote(table.column(field))} = %s"
    # All that is in it is a setting.
    query = f"SELECT * FROM {quote_table(quote, table)} WHERE {whose}"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(query, [value])
        described = cursor.description
        names = [one[0] for one in described]
        if connection.vendor == "sqlite":
            # Django makes a date of a column that is declared as one, and loses its time. Behind a
            # sign it is no column.
            plain = ", ".join(f"+{quote(name)}" for name in names)
            cursor.execute(query.replace("*", plain, 1), [value])
        rows = cursor.fetchmany(2)
    if len(rows) != 1:
        return None
    # Without USE_TZ, what had a zone comes without it, in that of the connection.
    local = ZoneInfo(connection.timezone_name)
    zones = [local if one[1] == TIMESTAMPTZ else UTC for one in described]
    row = {name: as_json(*one) for name, *one in zip(names, rows[0], zones, strict=True)}
    return row | {name: row.get(column) for name, column in table.columns.items()}


def quote_table(quote: Callable[[str], str], table: Table) -> str:
    """The name of a table, with that of its schema if it has one."""
    return ".".join(map(quote, table.name.split(".")))


def as_json(value: Any, zone: tzinfo) -> Any:
    """A value of a column as Better Auth writes it into a record: times are text. A time without a
    zone is in this one.
    """
    if isinstance(value, datetime):
        return write_time(value if value.tzinfo else value.replace(tzinfo=zone))
    return str(value) if isinstance(value, UUID) else value
