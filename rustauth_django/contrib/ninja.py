"""Throttles for django-ninja: its own, by their names, that hold under load.

django-ninja asks throttles without awaiting them, in async operations too: there, each
request holds the event loop for one round trip to the server. What does not is its
``decorate_view(rate_limit("5/m", scope="search"))``.
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

# Where the throttles of async operations are asked. What is the site's own, such as receivers
# of signals, may be of either kind, and neither can be called where a loop is running.
aside = ThreadPoolExecutor(thread_name_prefix="rate-limit")


class SimpleRateThrottle(Throttling, throttling.SimpleRateThrottle):
    """For throttles of one's own, with a ``get_cache_key(request)``."""

    def allow_request(self, request: HttpRequest) -> bool:
        # The test client of earlier versions sends a stand-in that has not everything.
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
            # This thread's: no end of a request would reach them.
            connections.close_all()

    def unavailable(self, request: HttpRequest, verdict: Uncounted) -> float:
        # An exception would be a 500 here. The middleware puts a 503 in the place of the 429.
        setattr(request, REFUSED_ATTRIBUTE, verdict)
        return verdict.retry_after


class AnonRateThrottle(throttling.AnonRateThrottle, SimpleRateThrottle):
    """Limits requests without ``request.auth``, by address."""


class AuthRateThrottle(throttling.AuthRateThrottle, SimpleRateThrottle):
    """Limits by ``request.auth``, and by address those without."""


class UserRateThrottle(throttling.UserRateThrottle, SimpleRateThrottle):
    """Limits users, and by address those who are not signed in."""
