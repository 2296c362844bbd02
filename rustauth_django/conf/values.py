"""Which values a setting may have."""

import re
from collections.abc import Callable
from functools import partial
from inspect import signature
from types import FunctionType, MethodType
from typing import Any

from django.utils.module_loading import import_string

from .sections import Wrong


def is_text(value: Any) -> bool:
    is_encodable = isinstance(value, str) and value.encode("utf-8", "replace").decode() == value
    return is_encodable and bool(value)


def is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def is_short(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 60


def is_path(value: Any) -> bool:
    return isinstance(value, str) and not re.search(r"[?#*^:\s]", value)


def is_options(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


def is_int(low: int, high: int) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high


def is_none_or_int(low: int, high: int) -> Callable[[Any], bool]:
    is_right = is_int(low, high)
    return lambda value: value is None or is_right(value)


def read_function(value: Any, arguments: int, hint: str) -> Callable[..., Any]:
    if isinstance(value, str):
        try:
            value = import_string(value)
        except Exception as error:  # noqa: BLE001  # whatever the site's module does
            text = f"cannot be imported: {type(error).__name__}: {error}"
            raise Wrong(text, hint) from None
    if not isinstance(value, FunctionType | MethodType | partial):
        raise Wrong("must be a function, or its dotted path", hint)
    try:
        signature(value).bind(*[None] * arguments)
    except TypeError:
        number = {1: "one argument", 2: "two arguments"}[arguments]
        raise Wrong(f"must take {number}", hint) from None
    function: Callable[..., Any] = value
    return function
