"""Throttles for Django REST framework, under the names of its own, that hold under load.

Change the import, or ``DEFAULT_THROTTLE_CLASSES``; rates stay in ``DEFAULT_THROTTLE_RATES``.
"""

from typing import Any

from django.http import HttpRequest
from rest_framework import throttling
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from ..limits.rates import Uncounted
from ..limits.responses import PAGES
from .throttling import Throttling


class Unavailable(APIException):
    """503 with ``Retry-After``: the server is away and ``ON_ERROR`` is "deny"."""

    status_code = 503
    default_code = "unavailable"
    default_detail = PAGES["503"].message

    def __init__(self, wait: int) -> None:
        super().__init__()
        self.wait = wait


class SimpleRateThrottle(Throttling, throttling.SimpleRateThrottle):
    """The base of a site's own throttles, which define ``get_cache_key(request, view)``."""

    def allow_request(self, request: Request, view: Any) -> bool:
        return self.allow(request, view)

    def unavailable(self, request: HttpRequest, verdict: Uncounted) -> float:
        raise Unavailable(verdict.retry_after)


class AnonRateThrottle(throttling.AnonRateThrottle, SimpleRateThrottle):
    """Limits those who are not signed in, by address."""


class UserRateThrottle(throttling.UserRateThrottle, SimpleRateThrottle):
    """Limits users, and by address those who are not signed in."""


class ScopedRateThrottle(throttling.ScopedRateThrottle, SimpleRateThrottle):
    """The same, with a counter for each ``throttle_scope``."""
