"""Paths as rules and buckets see them."""

import re
from functools import lru_cache


def normalize_path(path: str, base_path: str) -> str:
    """``path`` without the base path and without trailing slashes; never empty (PATH-01).

    The base goes only where a segment ends, and only once; case and inner slashes
    stay as they are (PATH-02).
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
    """A base path as it is compared: a leading slash, no trailing one; "" for the root."""
    trimmed = base_path.strip("/")
    return f"/{trimmed}" if trimmed else ""


@lru_cache(maxsize=1024)
def literal_route(route: str) -> str:
    """The one path that a route without parameters stands for.

    ``path()`` routes are that path already; of a regular expression the anchors go and
    escaped characters stand for themselves. For a route with parameters this is some
    text that no path of its own equals.
    """
    return "/" + re.sub(r"[\^$]|\\Z|\\(\W)", lambda found: found[1] or "", route)


def matches(pattern: str, path: str) -> bool:
    """RustAuth's wildcard: the first ``*`` is any text, slashes and all (MW-11)."""
    before, star, after = pattern.partition("*")
    if not star:
        return path == pattern
    return path.startswith(before) and path.endswith(after)
