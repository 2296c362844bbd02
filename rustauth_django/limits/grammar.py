"""Rates as people write them: ``5/m``, ``100/h``, ``3/10s``, ``10/s burst 20; 1000/day``."""

import re
from typing import NamedTuple

from ..exceptions import InvalidConfig

UNITS = {
    **dict.fromkeys(["s", "sec", "second", "seconds"], 1),
    **dict.fromkeys(["m", "min", "minute", "minutes"], 60),
    **dict.fromkeys(["h", "hour", "hours"], 3600),
    **dict.fromkeys(["d", "day", "days"], 86_400),
    **dict.fromkeys(["w", "week", "weeks"], 604_800),
}
RATE = re.compile(
    r"(?P<max>[1-9][0-9]{,14})\s*/\s*(?P<units>[1-9][0-9]{,8})?\s*(?P<unit>[a-z]+)"
    r"(?:\s+burst\s+(?P<burst>[1-9][0-9]{,14}))?"
)
GRAMMAR = (
    'write "COUNT/UNIT" or "COUNT/N UNIT" with whole numbers above zero and a unit of s, m, h,'
    ' d or w, like "5/m", "3/10s", "1000/day" or "10/s burst 20"'
)


class Rate(NamedTuple):
    """``max`` requests in ``window`` seconds, at most ``burst`` of them at once if there is a
    burst.
    """

    max: int
    window: int
    burst: int | None
    text: str


def parse_rate(text: str) -> Rate:
    """One rate. Raises ``InvalidConfig``, which quotes the text and shows the grammar."""
    found = RATE.fullmatch(text.strip())
    if not found or found["unit"] not in UNITS:
        raise InvalidConfig(f"{text!r} is not a rate; {GRAMMAR}")
    window = int(found["units"] or 1) * UNITS[found["unit"]]
    return Rate(int(found["max"]), window, int(found["burst"]) if found["burst"] else None, text)


def parse_rates(text: str) -> list[Rate]:
    """One rate or several, joined by ``;``."""
    return [parse_rate(part) for part in text.split(";")]
