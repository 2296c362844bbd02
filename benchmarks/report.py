"""What a part found: tables, charts and facts; and how they get into docs/performance.md."""

import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from os import cpu_count
from pathlib import Path

import redis

from .measuring import Kind, Spread

PACKAGES = (
    "django",
    "redis",
    "hiredis",
    "django-redis",
    "throttled-py",
    "limits",
    "django-ratelimit",
    "djangorestframework",
    "django-smart-ratelimit",
    "pyjwt",
)


@dataclass(frozen=True)
class Table:
    columns: list[str]
    rows: list[list[str]]

    def __str__(self) -> str:
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True)
class Bar:
    label: str
    value: Spread
    kind: Kind


@dataclass(frozen=True)
class Chart:
    """Horizontal bars; ``line`` is the name of what costs 1.0."""

    name: str
    title: str
    axis: str
    bars: list[Bar]
    line: str = ""


@dataclass(frozen=True)
class Result:
    """``facts`` are the numbers that the summary compares with the aims."""

    table: Table
    charts: list[Chart] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)


def machine(client: redis.Redis) -> Table:
    """What it was measured on, in general terms."""
    server = client.info("server")
    name = server.get("server_name", "redis")
    rows = [
        ["date", f"{datetime.now(UTC):%Y-%m-%d}"],
        ["cores", str(cpu_count())],
        ["system", f"{platform.system()}, {platform.machine()}"],
        ["Python", platform.python_version()],
        [f"server ({name})", server.get(f"{name}_version", server["redis_version"])],
    ]
    for package in PACKAGES:
        try:
            rows.append([package, version(package)])
        except PackageNotFoundError:
            rows.append([package, "not installed"])
    return Table(["", ""], rows)


def write(page: Path, blocks: dict[str, str]) -> None:
    """Put each text between the markers of its name; what is around them is kept by hand."""
    text = page.read_text()
    for name, block in blocks.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        pattern = f"(?<={re.escape(begin)}).*?(?={re.escape(end)})"
        text, count = re.subn(pattern, lambda _, block=block: f"{block}\n", text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"{page} must have the markers of {name!r} once, not {count} times")
    page.write_text(text)


def block(result: Result, pictures: Iterable[tuple[str, Path]] = ()) -> str:
    """A part's table, and below it its charts by title and path."""
    images = [f"\n![{title}]({path})" for title, path in pictures]
    return "\n".join([str(result.table), *images])
