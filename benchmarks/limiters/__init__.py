"""Every limiter behind one interface: the project's own, and its peers'.

Each module has

- ``NAME``: what its rows are called;
- ``client(number)``: what it counts by, for instance a request from an address;
- ``checks(url, limit)``: by the name of an algorithm, a function of a client that counts a
  request and returns whether it may pass, with ``limit`` requests an hour;
- ``async_checks(url, limit)``: the same with coroutine functions; empty where there are none.

They are set up as their documentation says. Some read Django's settings as they are imported.
"""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

OURS = "rustauth"
#: The modules here, what each needs to import, and the package that has it.
PEERS = {
    "throttled_py": ("throttled", "throttled-py"),
    "limits": ("limits", "limits"),
    "django_ratelimit": ("django_ratelimit", "django-ratelimit"),
    "rest_framework": ("rest_framework", "djangorestframework"),
    "smart_ratelimit": ("django_smart_ratelimit", "django-smart-ratelimit"),
}


def load() -> dict[str, ModuleType]:
    """This project's limiter, and those of its peers that are installed."""
    names = [OURS, *(name for name, (needed, _) in PEERS.items() if find_spec(needed))]
    return {name: import_module(f"{__name__}.{name}") for name in names}


def missing() -> list[str]:
    """The packages that are not installed."""
    return [package for needed, package in PEERS.values() if not find_spec(needed)]
