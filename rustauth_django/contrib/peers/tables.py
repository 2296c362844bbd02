"""Sessions in the tables of a Better Auth service, through one of Django's databases."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseError
from django.db import connections

from ...conf.peers import DatabasePeer, Table
from ...engine.plans import Call, Plan
from ...engine.records import write_time
from ...exceptions import BackendUnavailable
from .readers import CookieReader
from .records import BetterAuthRecord
from .session import PeerSession

LABEL = "tables of a peer"


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
        session = read_row(alias, sessions, "token", token, times=("expiresAt", "createdAt"))
        user = session and read_row(alias, users, "id", session.get("userId"))
    except DatabaseError as error:
        raise BackendUnavailable(LABEL, type(error).__name__) from None
    # A session whose user is gone is nobody's.
    return BetterAuthRecord(session, user) if session and user else None


def read_row(
    alias: str, table: Table, field: str, value: Any, times: Sequence[str] = ()
) -> dict[str, Any] | None:
    """The row with this value in a column, under the names that Better Auth has for its fields;
    None if there is none, or more than one.
    """
    connection = connections[alias]
    quote = connection.ops.quote_name
    wanted = ["*"]
    if connection.vendor == "sqlite":
        # A column of dates would come as a date without its time, unless it is called text.
        wanted += [f"CAST({quote(table.column(name))} AS TEXT)" for name in times]
    whose = f"{quote(table.column(field))} = %s"
    # All that is in it is a setting.
    query = f"SELECT {', '.join(wanted)} FROM {quote_table(quote, table)} WHERE {whose}"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(query, [value])
        rows = cursor.fetchmany(2)
        columns = [one[0] for one in cursor.description]
    if len(rows) != 1:
        return None
    columns[len(columns) - len(wanted) + 1 :] = map(table.column, times[: len(wanted) - 1])
    row = {name: as_json(value) for name, value in zip(columns, rows[0], strict=True)}
    return row | {name: row.get(column) for name, column in table.columns.items()}


def quote_table(quote: Callable[[str], str], table: Table) -> str:
    """The name of a table, with that of its schema if it has one."""
    return ".".join(map(quote, table.name.split(".")))


def as_json(value: Any) -> Any:
    """A value of a column as Better Auth writes it into a record: times are text, in UTC if the
    column has no zone.
    """
    if isinstance(value, datetime):
        return write_time(value if value.tzinfo else value.replace(tzinfo=UTC))
    return str(value) if isinstance(value, UUID) else value
