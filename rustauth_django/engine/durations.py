"""Durations as callers write them, in seconds, and as the engine counts them, in milliseconds."""

from datetime import timedelta
from math import isnan
from typing import TypeAlias

from ..exceptions import InvalidConfig

Seconds: TypeAlias = int | float | timedelta

MAX_I64 = 2**63 - 1
# The longest duration in seconds; no TTL may be longer.
LONGEST = 2**53
# The longest a server can be asked to keep a key: its deadline, in epoch
# milliseconds, has to fit in an i64 as well.
MAX_TTL_MS = MAX_I64 - 2**53


def to_milliseconds(value: Seconds, name: str) -> int:
    """Whole milliseconds of ``value`` seconds, rounded down from whole microseconds.

    Raises ``TypeError`` for anything but an int, a float or a ``timedelta`` (a bool
    is none of these), ``InvalidConfig`` for NaN.
    """
    if isinstance(value, timedelta):
        return value // timedelta(milliseconds=1)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(
            f"{name} must be seconds as an int, a float or a timedelta, not {type(value).__name__}"
        )
    if isinstance(value, int):
        return value * 1000
    if abs(value) < LONGEST:
        return round(value * 1_000_000) // 1000
    if isnan(value):
        raise InvalidConfig(f"{name} must be a number of seconds, not NaN")
    return MAX_I64 * 1000 if value > 0 else -1


def ceil_seconds(milliseconds: int) -> int:
    """``milliseconds`` in whole seconds, rounded up, and never below 0."""
    return max(0, -(-milliseconds // 1000))
