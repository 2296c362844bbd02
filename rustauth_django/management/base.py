"""The base of the commands: one clear line for every failure, and progress on a terminal."""

import json
import os
import signal
import sys
import threading
import time
from argparse import ArgumentTypeError
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from ..connections import get_stores
from ..exceptions import BackendError, RustAuthError
from ..limits.clients import Address, parse_address
from ..stores import RustAuthStores

T = TypeVar("T")

INTERRUPTED = 130  # what shells make of Ctrl-C


class StoresCommand(BaseCommand):
    """A command on the stores of ``settings.RUSTAUTH``.

    Wrong settings and a server that fails end it with exit code 1 and one line, never with a
    traceback. So does a reader that stops reading, such as ``| head``.
    """

    requires_system_checks = ()  # wrong settings are reported in one line, below

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            output = super().execute(*args, **options)
            self.stdout.flush()
        except BackendError as error:
            raise CommandError(f"{self.stores.backend.location}: {error}") from None
        except RustAuthError as error:
            raise CommandError(str(error)) from None
        except UnicodeEncodeError as error:
            wrong = printable(error.object[error.start : error.end], "ascii")
            raise CommandError(f"An argument has {wrong} in it, which UTF-8 cannot hold.") from None
        except OSError as error:
            if getattr(self.stdout, "_out", None) is not sys.stdout:
                raise  # a stream of the caller's, who has to handle it
            # Python's flush at exit would fail, since nobody reads any more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            if isinstance(error, BrokenPipeError):
                sys.exit(0)
            raise CommandError(f"Cannot write: {error.strerror}.") from None
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        return output

    @property
    def stores(self) -> RustAuthStores:
        return get_stores()

    def show(self, *cells: object) -> None:
        """Write a line of cells with tabs between them; None becomes "-"."""
        encoding = getattr(self.stdout, "encoding", None)
        shown = ("-" if cell is None else printable(str(cell), encoding) for cell in cells)
        self.stdout.write("\t".join(shown))

    def show_lines(self, lines: Sequence[str]) -> None:
        """Write many lines of one cell each, in one call."""
        text = "\n".join(lines)
        is_plain = text.isascii() and text.replace("\n", "").isprintable()
        if not is_plain or text.count("\n") != len(lines) - 1:
            encoding = getattr(self.stdout, "encoding", None)
            text = "\n".join([printable(line, encoding) for line in lines])
        self.stdout.write(text)

    def write_json(self, items: Iterable[dict[str, Any]]) -> None:
        """Write one JSON array, item by item, in constant memory."""
        separator = "["
        for item in items:
            self.stdout.write(f"{separator}\n  {json.dumps(item)}", ending="")
            separator = ","
        self.stdout.write("[]" if separator == "[" else "\n]")

    def total(self, verb: str, counts: Iterable[int]) -> int:
        """The sum of ``counts``, which a terminal shows as it grows.

        Ctrl-C ends the command with the sum so far, which is true.
        """
        total, shown_at, is_shown = 0, time.monotonic(), False

        def added() -> Iterator[None]:
            """Adding is part of the step, so Ctrl-C cannot come between the two."""
            nonlocal total
            for count in counts:
                total += count
                yield

        try:
            for _ in whole_steps(added()):
                if self.stderr.isatty() and time.monotonic() - shown_at > 0.1:
                    shown_at, is_shown = time.monotonic(), True
                    self.stderr.write(f"\r{verb} {total:,} ...", str, ending="")
                    self.stderr.flush()
        except KeyboardInterrupt:
            raise CommandError(
                f"Interrupted: {verb.lower()} {total:,} until then.", returncode=INTERRUPTED
            ) from None
        except BackendError as error:
            where = self.stores.backend.location
            raise CommandError(f"{where}: {error}; {verb.lower()} {total:,} until then.") from None
        finally:
            if is_shown:
                self.stderr.write("\r\x1b[K", str, ending="")
        return total


def count(text: str) -> int:
    """A number above zero, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a number above zero")
    return int(text)


def whole_steps(items: Iterable[T]) -> Iterator[T]:
    """The items of an iterator; Ctrl-C takes effect only between two of them.

    In the middle of a step its result would be lost, and hiredis 3.5 crashes if an
    exception finds it packing a command.
    """
    iterator = iter(items)
    is_main = threading.current_thread() is threading.main_thread()
    deferrable = is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    noted: list[int] = []
    while True:
        if deferrable:
            signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
        try:
            item = next(iterator)
        except StopIteration:
            return
        finally:
            if deferrable:
                signal.signal(signal.SIGINT, signal.default_int_handler)
        yield item
        if noted:
            raise KeyboardInterrupt


def printable(text: str, encoding: str | None) -> str:
    """Text for a terminal: characters that move the cursor or cannot be encoded are escaped."""
    if text.isascii() and text.isprintable():
        return text
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
    return shown.encode(encoding or "utf-8", "backslashreplace").decode(encoding or "utf-8")


def one_line(error: Exception) -> str:
    """The message of an error, without line breaks."""
    return " ".join(str(error).split())


def read_address(text: str) -> Address:
    """An address that was typed."""
    address = parse_address(text)
    if address is None:
        raise CommandError(f"{text!r} is not an IP address.")
    return address


def find_user(text: str, *, may_be_deleted: bool = False) -> Any:
    """The user whose primary key, user name or e-mail address this is; after "pk=" it is a primary
    key. Raises ``CommandError`` if there is none, or more than one.

    If a user ``may_be_deleted``, the answer is None where a primary key is nobody's.
    """
    if not text.removeprefix("pk=").strip():
        raise CommandError("The user has no name: the argument is empty.")
    try:
        model = get_user_model()
        lookups = {"pk": text.removeprefix("pk=")}
        if not text.startswith("pk="):
            lookups[model.USERNAME_FIELD] = text
            if any(one.name == model.get_email_field_name() for one in model._meta.get_fields()):
                lookups[f"{model.get_email_field_name()}__iexact"] = text
        found = {user.pk: user for lookup in lookups.items() for user in _users(model, lookup)}
    except (Error, ImproperlyConfigured) as error:
        raise CommandError(f"Users cannot be read: {one_line(error)}") from None
    if not found and may_be_deleted and text.startswith("pk="):
        return None
    if not found:
        wanted = "primary key, user name or e-mail address"
        raise CommandError(f"There is no user whose {wanted} is {text!r}.")
    if len(found) > 1:
        keys = " or ".join(f"pk={pk}" for pk in found)
        raise CommandError(f"{text!r} stands for more than one user: write {keys}.")
    return next(iter(found.values()))


def _users(model: Any, lookup: tuple[str, str]) -> list[Any]:
    """The users whom a lookup finds; none if it is not of the field's kind. Two are too many."""
    try:
        return list(model._default_manager.filter(**dict([lookup]))[:2])
    except (TypeError, ValueError, ValidationError, OverflowError):
        return []
