"""What the throttles for DRF and for django-ninja share."""

from collections.abc import Callable
from functools import lru_cache
from threading import local
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from ..connections import get_guard
from ..exceptions import InvalidConfig
from ..limits.guard import Ask
from ..limits.keys import MissingAddress
from ..limits.rates import RateLimitRule, Uncounted


class Untracked(Exception):
    """Addresses do not count on this site, or this request may go without one."""


class Throttling:
    """A mixin before a library's ``SimpleRateThrottle``, which counts in its place.

    ``rate``, ``scope``, ``get_rate()``, ``parse_rate()``, ``get_cache_key()`` and the like mean
    what they mean there. Each request is one atomic step on the server, by its clock; ``cache`` and
    ``timer`` are not used. A client counts by the address that ``RUSTAUTH["RATE_LIMIT"]`` says to
    trust, never by a ``X-Forwarded-For`` of its own: the libraries use that whole header where
    ``NUM_PROXIES`` is not set, so a client that varies it is a new one each time. A subclass with a
    ``get_ident()`` of its own keeps its own idea.
    """

    scope: Any
    rate: Any
    num_requests: Any
    duration: Any
    get_cache_key: Callable[..., str | None]
    # Answer with a 503, since a 429 would blame the client. Returns the seconds to wait, if it
    # returns.
    unavailable: Callable[[HttpRequest, Uncounted], float]
    _answer: local

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        throttle = super().__new__(cls)
        # django-ninja asks one throttle for all requests, from many threads at once.
        throttle._answer = local()
        return throttle

    def get_ident(self, request: HttpRequest) -> str:
        """The client's address. Raises ``MissingAddress`` or ``Untracked`` if there is none."""
        address = get_guard().options.visitors.address(request)
        if address is None:
            raise Untracked
        return address

    def parse_rate(self, rate: str | None) -> Any:
        """``(count, seconds)`` of a rate in this app's grammar (the first, if there are several) or
        the library's.
        """
        try:
            first = RateLimitRule.parse_all(rate or "")[0]
        except InvalidConfig:
            return super().parse_rate(rate)  # type: ignore[misc]  # the library's
        return first.max, first.window

    def allow(self, request: Any, *view: Any) -> bool:
        """May this request go on? Raises ``PermissionDenied`` for a client on the list ``DENY``."""
        seconds = self._answer.seconds = self.judge(request, *view)
        if seconds is None:
            return True
        return self.throttle_failure() if seconds else self.throttle_success()

    def throttle_success(self) -> bool:
        """Called when a request was counted; a subclass may have more to do."""
        return True

    def throttle_failure(self) -> bool:
        """Called when a request was refused; a subclass may have more to do."""
        return False

    def wait(self) -> float | None:
        """Seconds until the request that was just refused would be permitted, not rounded."""
        return getattr(self._answer, "seconds", None) or None

    def judge(self, request: Any, *view: Any) -> float | None:
        """Seconds to wait, 0 if it is permitted; None if it is not to be counted."""
        if self.rate is None:
            return None
        try:
            key = self.get_cache_key(request, *view)
            if key is None:
                return None
        except Untracked:
            return None
        except MissingAddress:
            key = None
        # DRF has a request of its own around Django's.
        asked = vars(request).get("_request", request)
        guard = get_guard()
        denied, is_exempt = guard.run(guard.screen(asked))
        if denied is not None:
            raise PermissionDenied
        if is_exempt:
            return None
        name = self.scope or type(self).__name__
        rules = rules_of(self.rate, self.num_requests, self.duration)
        if key is None:
            verdict = guard.run(guard.refuse(asked, name, rules))
        elif self.num_requests == 0:
            return float(self.duration)
        else:
            ask = Ask(name, tuple((key, rule) for rule in rules))
            verdict = guard.run(guard.ask(asked, ask))
        if not isinstance(verdict, Uncounted):
            return verdict.retry_after_ms / 1000 or verdict.retry_after
        return 0 if verdict.permitted else self.unavailable(asked, verdict)


@lru_cache
def rules_of(rate: str, count: int, seconds: int) -> tuple[RateLimitRule, ...]:
    """The rules of a rate that ``parse_rate`` reads as ``count`` in ``seconds``.

    A subclass may have a ``parse_rate`` that reads the same text in another way; its result counts.
    """
    try:
        rules = RateLimitRule.parse_all(rate)
    except (InvalidConfig, TypeError):
        rules = ()
    if not rules or (rules[0].max, rules[0].window) != (count, seconds):
        rules = (RateLimitRule(seconds, count).as_written(),)
    return rules
