"""Describing a user agent in words."""

from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from django.utils.module_loading import import_string

MAX_AGENT = 512
MAX_WORDS = 80
# By its path: the package is an extra, "agents".
PARSE: Any = import_string("ua_parser.parse") if find_spec("ua_parser") else None


@lru_cache(maxsize=256)
def describe_agent(agent: str | None) -> str:
    """For example "Firefox on Windows"; the first words of an unknown agent."""
    found = PARSE(agent) if PARSE and agent else None
    browser = found.user_agent.family if found and found.user_agent else ""
    system = found.os.family if found and found.os else ""
    if browser and system:
        return f"{browser} on {system}"
    return browser or system or (agent or "").strip()[:MAX_WORDS]
