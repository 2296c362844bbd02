"""The steps that middleware, decorator and throttles share: decide before a view, add headers after
it.
"""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple, TypeGuard, TypeVar
from weakref import WeakSet

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import SimpleTemplateResponse

from ..engine.durations import ceil_seconds
from ..engine.plans import Call, Plan, adrive, drive, send
from ..signals import rate_limit_shadowed, rate_limited
from .headers import limit_headers
from .keys import LOGIN, MissingAddress, Subject
from .logins import LOGINS_ATTRIBUTE, Logins, logins_of
from .operations import Attempt, Bucket, Reservation
from .options import GuardOptions
from .outages import Action, Limiter
from .protection import is_protected
from .rates import OnError, RateLimitDecision, RateLimitRule, Uncounted, Verdict, binding
from .responses import forbidden, locked, refusal
from .rules import Limit
from .store import RateLimitStore

T = TypeVar("T")

logger = logging.getLogger("rustauth_django")

# An attribute of a request: (name, decision) of the strictest limit that was checked for it.
TOLD_ATTRIBUTE = "_rate_limit_told"
# An attribute of a request: the refusal that has to replace its view's response.
REFUSED_ATTRIBUTE = "_rate_limit_refused"

# (name of a limit, outcome of a request), for telemetry.
Observer = Callable[[str, str], None]


class Ask(NamedTuple):
    """What to count for a request, and the name of the limit in headers and signals."""

    name: str
    limits: tuple[tuple[str, RateLimitRule], ...]
    cost: int = 1
    on_error: OnError | None = None
    shadow: bool = False
    #: Only refusals appear in headers.
    quiet: bool = False
    #: The keys whose buckets list the attempts that are under way.
    noted: frozenset[str] = frozenset()

    @classmethod
    def of(cls, limit: Limit, address: str) -> "Ask":
        """The middleware's limit for an address."""
        bucket = f"{address}|{limit.bucket}"
        limits = tuple([(bucket, rule) for rule in limit.rules])
        return cls(limit.name, limits, on_error=limit.on_error)

    @classmethod
    def of_login(
        cls, limits: Iterable[tuple[str, RateLimitRule]], noted: Iterable[str] | None = None
    ) -> "Ask | None":
        """The limits of an attempt to sign in; None if there are none.

        Their buckets list the attempts under way, all of them or only those of the keys in
        ``noted``. Headers would tell everybody how much an account has left.
        """
        limits = tuple(limits)
        keys = frozenset([key for key, _ in limits] if noted is None else noted)
        return cls(LOGIN, limits, quiet=True, noted=keys) if limits else None


class Reserved(NamedTuple):
    """Requests that were counted before a view, and that may be given back after it."""

    ask: Ask
    verdict: Verdict
    reservation: Reservation


class Guard:
    """Decides on requests. There is one per process, without state of any request.

    Its methods are plans: ``run(guard.before(...))`` or ``await arun(guard.before(...))``.
    ``clock`` returns seconds that only grow.
    """

    def __init__(
        self,
        options: GuardOptions,
        store: RateLimitStore,
        clock: Callable[[], float] = time.monotonic,
        observe: Observer | None = None,
    ) -> None:
        self.options = options
        self.store = store
        self._backend = store.backend
        self._limiter = Limiter(store.backend, options.on_error, clock)
        self._observe = observe
        self._warned_of_missing_ip = False
        self._protected_views: WeakSet[Any] = WeakSet()

    def run(self, plan: Plan[Action, T]) -> T:
        """Drive a plan, blocking."""
        return drive(plan, self._perform)

    async def arun(self, plan: Plan[Action, T]) -> T:
        """Drive a plan, awaiting."""
        return await adrive(plan, self._aperform)

    def _perform(self, step: Action) -> Any:
        return step.run() if isinstance(step, Call) else self._backend.run(step)

    async def _aperform(self, step: Action) -> Any:
        if isinstance(step, Call):
            return await step.arun()
        return await self._backend.arun(step)

    def before(self, request: HttpRequest, view: Any) -> Plan[Action, HttpResponse | None]:
        """Count a request that is about to reach ``view``; the refusal, if it must not reach it."""
        # Rules come before addresses, so that a path without a limit is never refused
        # for a missing address (MW-26).
        response, is_exempt = yield from self.screen(request)
        if is_exempt or getattr(view, "rate_limit_exempt", False):
            return response
        limit = yield from self.options.rules.resolve(request)
        if limit is None or (is_preflight(request) and not self.options.rules.names("OPTIONS")):
            return None
        try:
            address = self.options.visitors.address(request)
        except MissingAddress:
            verdict = yield from self.refuse(request, limit.name, limit.rules)
            return refusal(request, verdict)
        if address is None:
            return None
        ask = Ask.of(limit, address)
        if limit.on_failure and hasattr(request, LOGINS_ATTRIBUTE) and self.bounds(request):
            # The protection of logins bounds what is under way at once, so that an office whose
            # people sign in at the same moment is not refused.
            verdict = yield from self.ask(request, ask, spend=False)
            logins_of(request).view_ask = ask
        elif limit.on_failure and hasattr(request, LOGINS_ATTRIBUTE):
            verdict, reservation = yield from self.reserve(request, ask)
            if reservation is not None:
                logins_of(request).view = Reserved(ask, verdict, reservation)
        else:
            verdict = yield from self.ask(request, ask)
        return None if verdict.permitted else refusal(request, verdict)

    def learn(self, request: HttpRequest) -> None:
        """Remember that a view of this request counts its logins before passwords are checked."""
        if self.options.login.address and request.resolver_match:
            self._protected_views.add(request.resolver_match.func)

    def bounds(self, request: HttpRequest) -> bool:
        """Has this view counted its logins before, for accounts and for addresses?"""
        match = request.resolver_match
        return bool(match and match.func in self._protected_views and is_protected())

    def screen(self, request: HttpRequest) -> Plan[Action, tuple[HttpResponse | None, bool]]:
        """The refusal of a client on the list ``DENY``, or None; and True if no limit has to be
        checked.
        """
        options = self.options
        if not options.enabled:
            return None, True
        if options.deny or options.allow:
            address = options.visitors.addresses.find(request.META)
            if (yield from options.deny.includes(request, address)):
                return forbidden(request), True
            if (yield from options.allow.includes(request, address)):
                return None, True
        return None, False

    def limits_of(
        self, request: HttpRequest, subject: Subject, scope: str, rules: Iterable[RateLimitRule]
    ) -> Plan[Action, tuple[tuple[str, RateLimitRule], ...]]:
        """The limit for a request; None if it does not count. Raises ``MissingAddress``."""
        key = yield from subject.read(request, self.options.visitors)
        if key is None:
            return ()
        # A RustAuth bucket has room for one rule, so each rule has its own bucket.
        return tuple(
            (f"{key}|{scope}" if rule.slot else f"{key}|{scope}|{rule.name}", rule)
            for rule in rules
        )

    def ask(
        self, request: HttpRequest | None, ask: Ask, *, spend: bool = True
    ) -> Plan[Action, Verdict]:
        """The verdict on a request; without ``spend`` nothing is counted.

        A decision is left on ``request.rate_limit``, from which ``after`` makes headers. A refusal
        is sent as a signal; that of a shadow limit is then permitted.
        """
        store = self.store
        operation = (
            store.consumption(ask.limits, cost=ask.cost) if spend else store.inspection(ask.limits)
        )
        verdict = yield from self._limiter.consume(operation, ask.on_error)
        if ask.quiet and verdict.permitted:
            return verdict
        return (yield from self._tell(request, ask.name, verdict, shadow=ask.shadow))

    def reserve(
        self, request: HttpRequest | None, ask: Ask
    ) -> Plan[Action, tuple[Verdict, Reservation | None]]:
        """The same for a request that may be given back at its end, by ``settle``."""
        operation = self.store.attempt(ask.limits, ask.noted)
        verdict, reservation = yield from self._limiter.reserve(operation, ask.on_error)
        if not (ask.quiet and verdict.permitted):
            verdict = yield from self._tell(request, ask.name, verdict, shadow=ask.shadow)
        return verdict, reservation

    def undo(
        self, request: HttpRequest, ask: Ask, verdict: Verdict, reservation: Reservation
    ) -> Plan[Action, None]:
        """Give back a reservation that does not count after all."""
        attempts = [Attempt(bucket, at, "undo") for bucket, at in reservation.counted]
        yield from self.settle(attempts, is_here=reservation.is_here)
        if isinstance(verdict, RateLimitDecision) and getattr(request, TOLD_ATTRIBUTE, None) == (
            ask.name,
            verdict,
        ):
            remaining = min(verdict.limit, verdict.remaining + 1)
            reset_after = 0 if remaining == verdict.limit else verdict.reset_after
            told = replace(verdict, remaining=remaining, reset_after=reset_after)
            setattr(request, TOLD_ATTRIBUTE, (ask.name, told))
            request.rate_limit = told  # type: ignore[attr-defined]  # ours to add

    def settle(self, attempts: Iterable[Attempt], *, is_here: bool) -> Plan[Action, int]:
        """End a reservation, on the server or in this process's memory. How many attempts changed
        anything?
        """
        # A reservation that no bucket lists as under way can be kept without a call.
        open_ones = [one for one in attempts if one.ending != "keep" or one.bucket.notes_attempts]
        return (yield from self._limiter.settle(open_ones, is_here=is_here))

    def settle_logins(self, request: HttpRequest, response: HttpResponseBase) -> Plan[Action, None]:
        """At the end of a request: failed logins stay counted, the others are given back."""
        logins = logins_of(request)
        logins.has_crashed |= response.status_code >= 500
        yield from self.forgive(logins.accounts, logins)
        is_refused = getattr(request, REFUSED_ATTRIBUTE, None) is not None
        counts = not (is_refused or logins.is_success(request, response))
        if logins.view and not counts:
            yield from self.undo(request, *logins.view)
        if logins.view_ask and counts:
            verdict, _ = yield from self.spend(logins.view_ask)
            leave(request, logins.view_ask.name, verdict)

    def forgive(self, accounts: Iterable[str], logins: Logins | None = None) -> Plan[Action, int]:
        """Forgive the accounts with these keys their past failures, but no attempt that is under
        way. How many buckets changed?
        """
        rules = self.options.login
        forgiven = [
            Attempt(bucket, 0, "forgive")
            for key in accounts
            if (of_key := rules.pair if key.startswith("pair:") else rules.account)
            for bucket in self.store.attempt([(key, rule) for rule in of_key], [key]).buckets
        ]
        changed = 0
        for is_here in (False, True):
            ended = logins.endings(is_here=is_here) if logins else []
            changed += yield from self.settle([*ended, *forgiven], is_here=is_here)
        return changed

    def spend(self, ask: Ask) -> Plan[Action, tuple[Verdict, Reservation | None]]:
        """Count a request that was only looked at before; no reservation if there is no room left
        by now.
        """
        operation = self.store.consumption(ask.limits, cost=ask.cost)
        return (yield from self._limiter.reserve(operation, ask.on_error))

    def look(self, bucket: Bucket) -> Plan[Action, Verdict]:
        """How a limit stands, without counting or telling anything."""
        operation = self.store.inspection([(bucket.key, bucket.rule)])
        # An outage is nobody's error here.
        policy: OnError | None = "allow" if self.options.on_error == "raise" else None
        return (yield from self._limiter.consume(operation, policy))

    def refuse(
        self,
        request: HttpRequest,
        name: str,
        rules: Iterable[RateLimitRule],
        *,
        shadow: bool = False,
    ) -> Plan[Action, Verdict]:
        """The response to a request without an address (MW-22, MW-23)."""
        if not self._warned_of_missing_ip:
            self._warned_of_missing_ip = True
            logger.warning(
                "A request has no client address that can be trusted;"
                ' RUSTAUTH["RATE_LIMIT"]["MISSING_IP"] is %r. See IP_HEADERS and'
                " TRUSTED_PROXIES. This is logged once.",
                self.options.visitors.missing_ip,
            )
        rule = max(rules, key=lambda rule: rule.window_ms)
        seconds = ceil_seconds(rule.window_ms)
        decision = RateLimitDecision(
            False, seconds, rule.capacity, 0, seconds, rule, retry_after_ms=rule.window_ms
        )
        return (yield from self._tell(request, name, decision, shadow=shadow))

    def _tell(
        self, request: HttpRequest | None, name: str, verdict: Verdict, *, shadow: bool
    ) -> Plan[Action, Verdict]:
        if self._observe:
            self._observe(name, word_for(verdict, shadow=shadow))
        if not verdict.permitted:
            signal = rate_limit_shadowed if shadow else rate_limited
            match = request.resolver_match if request is not None else None
            sender = match.func if match else None
            yield from send(signal, sender, request=request, decision=verdict, name=name)
        if shadow:
            return Uncounted(permitted=True, retry_after=0)
        if request is not None:
            leave(request, name, verdict)
        return verdict


def is_preflight(request: HttpRequest) -> bool:
    """Is this a browser's preflight, the question whether another site may send a request?"""
    return request.method == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in request.META


def django_request(request: Any) -> HttpRequest | None:
    """Django's request, which DRF wraps in one of its own."""
    found: HttpRequest | None = getattr(request, "_request", request)
    return found


def leave(request: HttpRequest, name: str, verdict: Verdict) -> None:
    """Leave a decision on the request, if it is stricter than the one that is there."""
    told = getattr(request, TOLD_ATTRIBUTE, None)
    if isinstance(verdict, RateLimitDecision) and (
        told is None or binding([told[1], verdict]) is verdict
    ):
        setattr(request, TOLD_ATTRIBUTE, (name, verdict))
        request.rate_limit = verdict  # type: ignore[attr-defined]  # ours to add


def after(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """The response to send, with headers for the strictest limit. A refused login gets the refusal
    in place of the view's response, since the view took it for a wrong password.
    """
    verdict = getattr(request, REFUSED_ATTRIBUTE, None)
    if verdict is not None:
        response = locked(request, verdict)
    told = getattr(request, TOLD_ATTRIBUTE, None)
    if told is not None:
        for name, value in limit_headers(*told).items():
            response.headers[name] = value
    return response


def is_to_be_rendered(response: HttpResponseBase) -> TypeGuard[SimpleTemplateResponse]:
    """Did Django render before this response was made? It renders what views return."""
    return isinstance(response, SimpleTemplateResponse) and not response.is_rendered


def word_for(verdict: Verdict, *, shadow: bool) -> str:
    """The outcome of a request in one word."""
    if isinstance(verdict, Uncounted):
        return "uncounted" if verdict.permitted else "unavailable"
    if verdict.permitted:
        return "permitted"
    return "shadowed" if shadow else "refused"
