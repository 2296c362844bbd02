"""Reading a dictionary of settings, and collecting every problem in it."""

import difflib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

MAX_SHOWN = 200


class Problem(NamedTuple):
    """A problem in the settings: where it is, what is wrong, and what to write instead."""

    id: str
    path: str
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.path} {self.message}. {self.hint}"


class Wrong(Exception):
    """What is wrong with one value, and what to write instead."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint


class Section:
    """One dictionary of settings; all of them collect their problems in one list, ``problems``."""

    def __init__(
        self, raw: dict[str, Any], defaults: dict[str, Any], path: str, problems: list[Problem]
    ) -> None:
        self.raw, self.defaults, self.path, self.problems = raw, defaults, path, problems
        for name in raw:
            if name not in defaults:
                self.problem("E002", name, "is not a setting", did_you_mean(name, defaults))

    def at(self, name: object) -> str:
        """The path of one setting, as one would write it."""
        return f"{self.path}[{quote(name)}]"

    def problem(self, id: str, name: object, message: str, hint: str) -> None:
        self.problems.append(Problem(id, self.at(name), message, hint))

    def get(
        self, name: str, expected: str, is_valid: Callable[[Any], bool], *, secret: bool = False
    ) -> Any:
        """A setting, or its default if it is missing or not of the ``expected`` kind."""
        default = self.defaults[name]
        value = self.raw.get(name, default)
        if value is default or is_valid(value):
            return value
        instead = "" if secret else f", not {shown(value)}"
        hint = f"Leave it out for the default, {quote(default)}."
        self.problem("E003", name, f"must be {expected}{instead}", hint)
        return default

    def within(self, name: str, defaults: dict[str, Any]) -> "Section":
        """A setting that is itself a dictionary of settings."""
        raw = self.get(name, "a dictionary", lambda value: isinstance(value, dict))
        return Section(raw or {}, defaults, self.at(name), self.problems)

    @contextmanager
    def noting(self, name: object, id: str = "E003") -> Iterator[None]:
        """Turn a ``Wrong`` that is raised in the block into a problem, and go on."""
        try:
            yield
        except Wrong as wrong:
            self.problem(id, name, wrong.message, wrong.hint)

    def each(
        self, name: str, expected: str, read_item: Callable[[Any], Any], id: str = "E003"
    ) -> Iterator[Any]:
        """The readable items of a setting that is a list; ``read_item`` may raise ``Wrong``."""
        value = self.get(name, expected, lambda v: isinstance(v, list | tuple))
        for index, item in enumerate(value):
            try:
                yield read_item(item)
            except Wrong as wrong:
                where = f"{self.at(name)}[{index}]"
                self.problems.append(Problem(id, where, wrong.message, wrong.hint))


def shown(value: object) -> str:
    """A value as a message shows it: not all of one that is long, and nothing of some."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"this {type(value).__name__}"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def quote(value: object) -> str:
    """A value as settings files have it, text in double quotes."""
    return f'"{value}"' if isinstance(value, str) else shown(value)


def either(names: Collection[str]) -> str:
    """Some names as a choice: "a", "b" or "c"."""
    *others, last = map(quote, names)
    return f"{', '.join(others)} or {last}" if others else last


def did_you_mean(name: object, known: Collection[str]) -> str:
    """A hint for a name that is not known: the nearest that is, or all of them."""
    by_upper = {key.upper(): key for key in known}
    if not known:
        return "There is none."
    close = difflib.get_close_matches(str(name).upper(), by_upper, n=1)
    if close:
        return f"Did you mean {quote(by_upper[close[0]])}?"
    return f"Known: {either(known)}." if len(known) <= 16 else "No known name is similar."
