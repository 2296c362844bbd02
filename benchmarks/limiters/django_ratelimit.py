"""django-ratelimit on a django-redis cache; it has fixed windows, and no async form."""

from collections.abc import Callable

from django.http import HttpRequest
from django.test import RequestFactory
from django_ratelimit.core import is_ratelimited

from benchmarks.measuring import address

NAME = "django-ratelimit"


def client(number: int) -> HttpRequest:
    return RequestFactory(REMOTE_ADDR=address(number)).get("/view")


def checks(url: str, limit: int) -> dict[str, Callable[[HttpRequest], bool]]:
    def check(request: HttpRequest) -> bool:
        return not is_ratelimited(request, "view", key="ip", rate=f"{limit}/h", increment=True)

    return {"fixed window": check}


def async_checks(url: str, limit: int) -> dict[str, Callable[[HttpRequest], bool]]:
    return {}
