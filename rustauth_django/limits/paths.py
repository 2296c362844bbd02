"""Paths in the form that rules and buckets use."""

import re
from functools import lru_cache


def normalize_path(path: str, base_path: str) -> str:
    """``path`` without the base path and without trailing slashes; never empty (PATH-01).

    The base path is removed only as whole segments, and only once; case and inner slashes stay as
    they are (PATH-02).
    """
    path = f"/{path.removeprefix('/')}"
    if is_under(path, base_path):
        path = path[len(base(base_path)) :]
    return path.rstrip("/") or "/"


def is_under(path: str, base_path: str) -> bool:
    """Is ``path`` the base path, or below it?"""
    prefix = base(base_path)
    return path == prefix or path.startswith(f"{prefix}/")


@lru_cache(maxsize=16)
def base(base_path: str) -> str:
    """A base path in the form for comparison: a leading slash, no trailing one; "" for the root."""
    trimmed = base_path.strip("/")
    return f"/{trimmed}" if trimmed else ""


def is_literal(route: str, path: str) -> bool:
    """Does this route stand for ``path`` and for no other?

    A ``path()`` without parameters does, and a regular expression that is anchored at its
    end and has nothing special in it.
    """
    return path == f"/{route}" or path == _literal_regex(route)


@lru_cache(maxsize=1024)
def _literal_regex(route: str) -> str | None:
    body = re.sub(r"(\$|\\Z)$", "", route)
    if body == route:
        return None
    tokens = re.findall(r"\\(\W)|([.*+?{}\[\]()|$\\])|\^|(.)", body)
    if any(special for _, special, _ in tokens):
        return None
    return "/" + "".join(escaped or plain for escaped, _, plain in tokens)


def matches(pattern: str, path: str) -> bool:
    """RustAuth's wildcard: the first ``*`` matches any text, including slashes (MW-11)."""
    before, star, after = pattern.partition("*")
    if not star:
        return path == pattern
    return path.startswith(before) and path.endswith(after)
