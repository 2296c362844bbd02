"""The steps that every edge shares: ``check`` before a view, ``after`` it."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from django.http import HttpRequest, HttpResponse, HttpResponseBase

from .backends.memory import MemoryBackend
from .client_ip import ClientAddresses
from .durations import ceil_seconds
from .exceptions import BackendError, BackendUnavailable
from .headers import limit_headers
from .operations import Consume, Operation
from .plans import Call, Plan, adrive, drive
from .rates import RateLimitDecision
from .responses import too_many_requests
from .rules import Limit, RuleSet
from .stores import RustAuthStores

logger = logging.getLogger("rustauth_django")

MissingIP: TypeAlias = Literal["deny", "shared-bucket", "allow"]
Step: TypeAlias = Operation[Any] | Call

# How many seconds a server that failed is left alone.
PAUSE = 1.0

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
    through or locked out for a reason of ours. ``clock`` returns seconds that only grow.
    """

    def __init__(
        self,
        options: GuardOptions,
        stores: RustAuthStores,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self._stores = stores
        self._clock = clock
        self._stand_in = MemoryBackend()
        self._is_standing_in = False
        self._ask_again_at = 0.0
        self._warned_of_missing_ip = False

    def check(self, request: HttpRequest, view: Any) -> HttpResponse | None:
        """Count a request that is about to reach ``view``; the 429, if it must not.

        The decision is left on ``request.rate_limit``.
        """
        return drive(self._before(request, view), self._perform)

    async def acheck(self, request: HttpRequest, view: Any) -> HttpResponse | None:
        return await adrive(self._before(request, view), self._aperform)

    def after(self, request: HttpRequest, response: HttpResponseBase) -> None:
        """Tell of the limit that was checked, whatever became of the request."""
        for name, value in getattr(request, HEADERS_ATTRIBUTE, {}).items():
            response.headers[name] = value

    def _perform(self, step: Step) -> Any:
        return step.run() if isinstance(step, Call) else self._stores.backend.run(step)

    async def _aperform(self, step: Step) -> Any:
        if isinstance(step, Call):
            return await step.arun()
        return await self._stores.backend.arun(step)

    def _before(self, request: HttpRequest, view: Any) -> Plan[Step, HttpResponse | None]:
        # Rules come before addresses, so that a path without a limit is never refused
        # for a missing address (MW-26).
        options = self._options
        if not options.enabled or getattr(view, "rate_limit_exempt", False):
            return None
        limit = yield from options.rules.resolve(request)
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
        operation = self._stores.rate_limit_store.consumption([(bucket, limit.rule)])
        return _conclude(request, limit, (yield from self._consume(operation)))

    def _consume(self, operation: Consume) -> Plan[Step, RateLimitDecision]:
        if self._is_standing_in:
            if self._clock() < self._ask_again_at:
                return self._stand_in.run(operation)[0]
            # One request asks; those that come meanwhile do not wait with it.
            self._ask_again_at = self._clock() + PAUSE
        try:
            decision: RateLimitDecision = (yield operation)[0]
        except BackendError as error:
            # A server that answers, if only with an error, costs nobody a time-out.
            pause = PAUSE if isinstance(error, BackendUnavailable) else 0
            self._ask_again_at = self._clock() + pause
            if not self._is_standing_in:
                self._is_standing_in = True
                logger.warning(
                    "Rate limits are counted in this process for now: %s failed: %s",
                    error.operation,
                    error.reason,
                )
            return self._stand_in.run(operation)[0]
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
