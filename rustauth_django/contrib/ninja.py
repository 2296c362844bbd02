"""Throttles for django-ninja, under the names of its own, that hold under load.

django-ninja calls throttles without awaiting them, in async operations too: there, each request
blocks the event loop for one round trip to the server. ``decorate_view(rate_limit("5/m",
scope="search"))`` does not block it.
"""

from asyncio import get_running_loop
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from django.db import connections
from django.http import HttpRequest
from ninja import throttling

from ..limits.guard import REFUSED_ATTRIBUTE
from ..limits.rates import Uncounted
from .throttling import Throttling

# Throttles of async operations run in this thread. The site's own code, such as receivers of
# signals, may be sync or async, and neither can be called from a running loop.
aside = ThreadPoolExecutor(thread_name_prefix="rate-limit")


class SimpleRateThrottle(Throttling, throttling.SimpleRateThrottle):
    """The base of a site's own throttles, which define ``get_cache_key(request)``."""

    def allow_request(self, request: HttpRequest) -> bool:
        # The test client of earlier versions sends a stand-in without all attributes of a request.
        vars(request).setdefault("resolver_match", None)
        return self.allow(request)

    def judge(self, request: HttpRequest, *view: Any) -> float | None:
        try:
            get_running_loop()
        except RuntimeError:
            return super().judge(request)
        return aside.submit(copy_context().run, self._judge_aside, request).result()

    def _judge_aside(self, request: HttpRequest) -> float | None:
        try:
            return super().judge(request)
        finally:
            # This thread's connections: no signal at the end of a request closes them.
            connections.close_all()

    def unavailable(self, request: HttpRequest, verdict: Uncounted) -> float:
        # An exception would become a 500 here. The middleware replaces the 429 by a 503.
        setattr(request, REFUSED_ATTRIBUTE, verdict)
        return verdict.retry_after


class AnonRateThrottle(throttling.AnonRateThrottle, SimpleRateThrottle):
    """Limits requests without ``request.auth``, by address."""


class AuthRateThrottle(throttling.AuthRateThrottle, SimpleRateThrottle):
    """Limits by ``request.auth``, and by address those without."""


class UserRateThrottle(throttling.UserRateThrottle, SimpleRateThrottle):
    """Limits users, and by address those who are not signed in."""
