"""The steps that every edge shares: ``before`` a view and ``after`` it."""

import logging
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from django.http import HttpRequest, HttpResponse, HttpResponseBase

from .backends.memory import MemoryBackend
from .client_ip import ClientAddresses
from .durations import ceil_seconds
from .exceptions import BackendError
from .headers import limit_headers
from .operations import Consume, Operation
from .plans import Plan
from .ratelimit import RateLimitStore
from .rates import RateLimitDecision
from .responses import too_many_requests
from .rules import Limit, RuleSet

logger = logging.getLogger("rustauth_django")

MissingIP: TypeAlias = Literal["deny", "shared-bucket", "allow"]
Steps: TypeAlias = Plan[Operation[Any], HttpResponse | None]

HEADERS_ATTRIBUTE = "_rate_limit_headers"


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """``RUSTAUTH["RATE_LIMIT"]``, read and checked."""

    enabled: bool
    rules: RuleSet
    addresses: ClientAddresses
    track_ip: bool
    missing_ip: MissingIP


class Guard:
    """Decides on requests. One per process; it holds no state of any request.

    While the server is away, requests are counted in this process, by the same rules:
    the limits hold for each process instead of for the whole site, and nobody is let
    through or locked out for a reason of ours.
    """

    def __init__(self, options: GuardOptions, store: RateLimitStore) -> None:
        self._options = options
        self._store = store
        self._stand_in = MemoryBackend()
        self._is_standing_in = False
        self._warned_of_missing_ip = False

    def before(self, request: HttpRequest, view: Any) -> Steps:
        """Count a request that is about to reach ``view``; the 429, if it must not.

        The decision is left on ``request.rate_limit``. Rules come before addresses, so
        that a path without a limit is never refused for a missing address (MW-26).
        """
        options = self._options
        if not options.enabled or getattr(view, "rate_limit_exempt", False):
            return None
        limit = options.rules.resolve(request)
        if limit is None or not options.track_ip:
            return None
        address = options.addresses.resolve(request.META)
        if address is None:
            self._warn_of_missing_ip()
            if options.missing_ip == "allow":
                return None
            if options.missing_ip == "deny":
                return _conclude(request, limit, refuse(limit))
            address = "missing-ip"
        bucket = f"{address}|{limit.bucket}"
        decision = yield from self._consume(self._store.consumption(bucket, limit.rule))
        return _conclude(request, limit, decision)

    def after(self, request: HttpRequest, response: HttpResponseBase) -> None:
        """Tell of the limit that was checked, whatever became of the request."""
        for name, value in getattr(request, HEADERS_ATTRIBUTE, {}).items():
            response.headers[name] = value

    def _consume(self, operation: Consume) -> Plan[Operation[Any], RateLimitDecision]:
        try:
            decision: RateLimitDecision = yield operation
        except BackendError as error:
            if not self._is_standing_in:
                self._is_standing_in = True
                logger.warning(
                    "Rate limits are counted in this process for now: %s failed: %s",
                    error.operation,
                    error.reason,
                )
            return self._stand_in.run(operation)
        if self._is_standing_in:
            self._is_standing_in = False
            logger.warning("Rate limits are counted on the server again.")
        return decision

    def _warn_of_missing_ip(self) -> None:
        if not self._warned_of_missing_ip:
            self._warned_of_missing_ip = True
            logger.warning(
                "A request came without a client address that can be believed;"
                ' RUSTAUTH["RATE_LIMIT"]["MISSING_IP"] is %r. See IP_HEADERS and'
                " TRUSTED_PROXIES. This is said once.",
                self._options.missing_ip,
            )


def _conclude(
    request: HttpRequest, limit: Limit, decision: RateLimitDecision
) -> HttpResponse | None:
    request.rate_limit = decision  # type: ignore[attr-defined]  # ours to add
    setattr(request, HEADERS_ATTRIBUTE, limit_headers(limit.name, limit.rule, decision))
    return None if decision.permitted else too_many_requests(request, decision)


def refuse(limit: Limit) -> RateLimitDecision:
    """The refusal of a request that could not be counted (MW-22, MW-23)."""
    seconds = ceil_seconds(limit.rule.window_ms)
    return RateLimitDecision(False, seconds, limit.rule.max, 0, seconds)
