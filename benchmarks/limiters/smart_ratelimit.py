"""django-smart-ratelimit: its fastest algorithm, which is a setting, on its Redis backend."""

from collections.abc import Callable

from django.http import HttpRequest
from django_smart_ratelimit.utils import is_ratelimited

from .django_ratelimit import client

__all__ = ["NAME", "async_checks", "checks", "client"]

NAME = "django-smart-ratelimit"


def checks(url: str, limit: int) -> dict[str, Callable[[HttpRequest], bool]]:
    return {
        "fixed window": lambda request: not is_ratelimited(request, key="ip", rate=f"{limit}/h")
    }


def async_checks(url: str, limit: int) -> dict[str, Callable[[HttpRequest], bool]]:
    return {}
