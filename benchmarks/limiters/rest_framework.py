"""Django REST framework's throttle on a django-redis cache: a list of times; sync alone."""

from collections.abc import Callable

from django.contrib.auth.models import AnonymousUser
from rest_framework.request import Request
from rest_framework.throttling import AnonRateThrottle

from . import django_ratelimit

NAME = "DRF"


def client(number: int) -> Request:
    request = Request(django_ratelimit.client(number))
    # DRF's views have found the user before they ask a throttle.
    request.user = AnonymousUser()
    return request


def checks(url: str, limit: int) -> dict[str, Callable[[Request], bool]]:
    throttle = type("Throttle", (AnonRateThrottle,), {"rate": f"{limit}/hour"})
    # As DRF's views do, a new one for each request.
    return {"list of times": lambda request: throttle().allow_request(request, None)}


def async_checks(url: str, limit: int) -> dict[str, Callable[[Request], bool]]:
    return {}
