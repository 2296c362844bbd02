"""The decorators with which a view declares its limits."""

import inspect
import linecache
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from types import FrameType
from typing import Any, Literal, TypeAlias, TypeVar, cast

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase

from .connections import get_guard
from .engine.plans import Call, Plan
from .exceptions import InvalidConfig
from .limits.guard import Ask, Guard, Reserved, after, django_request, is_preflight
from .limits.keys import LOGIN, Key, MissingAddress, Subject, parse_key
from .limits.outages import Action
from .limits.rates import OnError, RateLimitRule, to_rules
from .limits.responses import refusal

View = TypeVar("View", bound=Callable[..., Any])
Rates: TypeAlias = str | RateLimitRule | Callable[[HttpRequest], Any]
Counted: TypeAlias = Literal["request", "failure", "success"]

NEEDS_A_RATE = 'rate_limit needs a rate: write @rate_limit("5/m")'
# A line with a decorator that is not called.
BARE = re.compile(r"@[\w.]+\s*(#.*)?")


def rate_limit_exempt(view: View) -> View:
    """Mark a view, sync or async, as one that ``RateLimitMiddleware`` passes over.

    On a class: ``@method_decorator(rate_limit_exempt, name="dispatch")``.
    """

    async def async_wrapper(*args: Any, **kwargs: Any) -> Any:
        return await view(*args, **kwargs)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs)

    exempt = wraps(view)(async_wrapper if iscoroutinefunction(view) else wrapper)
    exempt.rate_limit_exempt = True  # type: ignore[attr-defined]  # as csrf_exempt does
    return cast(View, exempt)


def rate_limit(
    *rates: Rates,
    key: Key = "ip",
    scope: str | None = None,
    methods: str | Iterable[str] | None = None,
    cost: int = 1,
    on: Counted | Callable[[HttpRequest, HttpResponseBase], Any] = "request",
    block: bool = True,
    shadow: bool = False,
    on_error: OnError | None = None,
) -> Callable[[View], View]:
    """Limit a view, of either kind; on a class, through ``method_decorator``.

    ``rates`` are texts ("5/m"), rules, or one function of the request that returns some or None;
    all of them count, or none does. ``key`` says by what: see ``limits/keys.py``. Views of one
    ``scope`` share their counters; without a scope each view has its own. Only requests with one of
    ``methods`` count. ``cost`` is what each request spends. ``on`` is "request", "failure",
    "success" or a function of request and response: all are counted before the view, so that no
    more than the limit are under way, and what did not count is given back after it. Without
    ``block`` the view is called in any case, and finds the decision on ``request.rate_limit``. A
    ``shadow`` refuses nothing and only sends the signal ``rate_limit_shadowed``. ``on_error`` takes
    the place of the setting ON_ERROR.

    Wrong arguments raise ``InvalidConfig`` or ``TypeError`` as the module is loaded.
    """
    if len(rates) == 1 and isinstance(rates[0], type):
        raise InvalidConfig(
            "rate_limit needs a rate, and is for functions and methods; on a class write"
            ' @method_decorator(rate_limit("5/m"), name="dispatch")'
        )
    if len(rates) == 1 and callable(rates[0]) and is_bare(inspect.currentframe()):
        raise InvalidConfig(NEEDS_A_RATE)
    if on not in ("request", "failure", "success") and not callable(on):
        raise InvalidConfig('on must be "request", "failure", "success" or a function')
    if on_error not in (None, "local", "deny", "allow", "raise"):
        raise InvalidConfig('on_error must be "local", "deny", "allow", "raise" or None')
    if on != "request" and cost != 1:
        raise InvalidConfig('cost needs on="request": leave out cost, or on')
    if scope == LOGIN:
        raise InvalidConfig(f"scope must not be {LOGIN!r}, the name of the limits on failed logins")
    names = None if methods is None else [methods] if isinstance(methods, str) else methods
    limited = Limited(
        rates=_read_rates(rates, cost),
        subject=parse_key(key),
        scope=scope,
        methods=None if names is None else frozenset(name.upper() for name in names),
        cost=cost,
        on=on,
        block=block,
        shadow=shadow,
        on_error=on_error,
    )
    return limited.decorate


def is_bare(frame: FrameType | None) -> bool:
    """Is this call a decorator without parentheses? Its line has the name and nothing else.

    A view that it is given cannot be told from a function that returns rates.
    """
    caller = frame and frame.f_back
    if caller is None:
        return False
    line = linecache.getline(caller.f_code.co_filename, caller.f_lineno, caller.f_globals)
    return BARE.fullmatch(line.strip()) is not None


def _read_rates(rates: tuple[Rates, ...], cost: int) -> Any:
    if len(rates) == 1 and callable(rates[0]):
        return rates[0]
    rules = to_rules(rates, as_written=True) if rates else ()
    if not rules:
        raise InvalidConfig('rate_limit needs a rate, like "5/m"')
    if isinstance(cost, bool) or not isinstance(cost, int):
        raise TypeError(f"cost must be an int, not {type(cost).__name__}")
    if not 0 < cost <= min(rule.capacity for rule in rules):
        raise InvalidConfig("cost must be greater than zero, and not greater than any limit")
    return rules


@dataclass(frozen=True, slots=True)
class Limited:
    """The arguments of one ``rate_limit``, and its two steps around a view."""

    rates: tuple[RateLimitRule, ...] | Callable[[HttpRequest], Any]
    subject: Subject
    scope: str | None
    methods: frozenset[str] | None
    cost: int
    on: Counted | Callable[[HttpRequest, HttpResponseBase], Any]
    block: bool
    shadow: bool
    on_error: OnError | None

    def decorate(self, view: View) -> View:
        if isinstance(view, type):
            raise InvalidConfig(
                "rate_limit is for functions and methods; on a class write"
                ' @method_decorator(rate_limit("5/m"), name="dispatch")'
            )
        if not callable(view):
            raise InvalidConfig(NEEDS_A_RATE)

        @wraps(view)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if is_async(view, args):
                return async_wrapper(*args, **kwargs)
            guard, request = get_guard(), request_of(args)
            response, reserved = guard.run(self.before(guard, request, view))
            if response is None:
                try:
                    response = view(*args, **kwargs)
                except Exception as error:
                    guard.run(self.after(guard, request, response_of(error), reserved))
                    raise
                guard.run(self.after(guard, request, response, reserved))
            return after(request, response)

        @wraps(view)
        async def async_wrapper(*args: Any, **kwargs: Any) -> Any:
            guard, request = get_guard(), request_of(args)
            response, reserved = await guard.arun(self.before(guard, request, view))
            if response is None:
                try:
                    response = await view(*args, **kwargs)
                except Exception as error:
                    await guard.arun(self.after(guard, request, response_of(error), reserved))
                    raise
                await guard.arun(self.after(guard, request, response, reserved))
            return after(request, response)

        decorated: Any = async_wrapper if iscoroutinefunction(view) else wrapper
        # Each has a name of its own: of attributes with one name method_decorator keeps the last.
        setattr(decorated, f"rate_limited_{id(self)}", self)
        return cast(View, decorated)

    def before(
        self, guard: Guard, request: HttpRequest, view: Any
    ) -> Plan[Action, tuple[HttpResponse | None, Reserved | None]]:
        """The refusal that takes the place of the view's response, or None; and what ``after``
        settles.
        """
        if self.methods is None:
            is_passed_over = is_preflight(request)
        else:
            is_passed_over = (request.method or "GET").upper() not in self.methods
        if is_passed_over:
            return None, None
        response, is_exempt = yield from guard.screen(request)
        if is_exempt:
            return response, None
        reserved = None
        try:
            ask = yield from self.ask(guard, request, view)
        except MissingAddress:
            rules = yield from self.rules(request)
            verdict = yield from guard.refuse(
                request, self.name(request, view), rules, shadow=self.shadow
            )
        else:
            if ask is None:
                return None, None
            if self.on == "request":
                verdict = yield from guard.ask(request, ask)
            else:
                verdict, reservation = yield from guard.reserve(request, ask)
                reserved = Reserved(ask, verdict, reservation) if reservation else None
        if self.block and not verdict.permitted:
            return refusal(request, verdict), None
        return None, reserved

    def after(
        self,
        guard: Guard,
        request: HttpRequest,
        response: HttpResponseBase,
        reserved: Reserved | None,
    ) -> Plan[Action, None]:
        """Give back, unless the response is one that counts."""
        if reserved is None:
            return
        if callable(self.on):
            counts = yield Call(self.on, (request, response))
        else:
            counts = result_of(response) == self.on
        if not counts:
            yield from guard.undo(request, *reserved)

    def ask(self, guard: Guard, request: HttpRequest, view: Any) -> Plan[Action, Ask | None]:
        """What to count for a request; None if it does not count. Raises ``MissingAddress``."""
        rules = yield from self.rules(request)
        if not rules:
            return None
        name = self.name(request, view)
        limits = yield from guard.limits_of(request, self.subject, name, rules)
        return Ask(name, limits, self.cost, self.on_error, self.shadow) if limits else None

    def rules(self, request: HttpRequest) -> Plan[Action, tuple[RateLimitRule, ...]]:
        """The rules, for this request."""
        if not callable(self.rates):
            return self.rates
        rates = yield Call(self.rates, (request,))
        return to_rules(rates, as_written=True) if rates else ()

    def name(self, request: HttpRequest, view: Any) -> str:
        """The scope; without one, the view's name and a suffix that tells this limit from others on
        it.
        """
        if self.scope is not None:
            return self.scope
        on = "" if self.on == "request" else getattr(self.on, "__qualname__", self.on)
        parts = [name_of(request, view), *sorted(self.methods or ()), str(on)]
        return " ".join(filter(None, parts))


def limits_on(view: Any) -> list[Limited]:
    """The limits that ``rate_limit`` put on a view, the innermost first."""
    return [said for said in getattr(view, "__dict__", {}).values() if isinstance(said, Limited)]


def request_of(args: tuple[Any, ...]) -> HttpRequest:
    """The request among the arguments of a view or of a method; DRF's request contains Django's."""
    for arg in args[:2]:
        found = django_request(arg)
        if isinstance(found, HttpRequest):
            return found
    raise TypeError("a view that is limited must be called with a request")


def is_async(view: Any, args: tuple[Any, ...]) -> bool:
    """Will this call return a coroutine? ``dispatch`` is a plain function in either case."""
    # method_decorator passes a partial of the bound method.
    bound = getattr(view, "func", view)
    instance = getattr(bound, "__self__", args[0] if args else None)
    name = getattr(view, "__name__", "")
    return name == "dispatch" and bool(getattr(instance, "view_is_async", False))


def name_of(request: HttpRequest, view: Any) -> str:
    """A view's dotted path; a method's names the class of the instance, not the base that defines
    it.
    """
    called = getattr(request.resolver_match, "func", None)
    while not hasattr(view, "__qualname__") and hasattr(view, "func"):
        view = view.func  # of a partial
    name = getattr(view, "__qualname__", type(view).__name__)
    cls = getattr(called, "view_class", None) or getattr(called, "cls", None)
    if cls is None:
        return f"{getattr(view, '__module__', '')}.{name}".strip(".")
    # DRF gives the class around a function the function's name, and no other.
    is_nested = cls.__qualname__.endswith(f".{cls.__name__}")
    method = name.rpartition(".")[2]
    own = "" if method in ("dispatch", "view") else f".{method}"
    return f"{cls.__module__}.{cls.__qualname__ if is_nested else cls.__name__}{own}"


def response_of(error: Exception) -> HttpResponseBase:
    """A response with the status that Django will give to a view's exception."""
    kinds = {Http404: 404, PermissionDenied: 403, SuspiciousOperation: 400, BadRequest: 400}
    found = (status for kind, status in kinds.items() if isinstance(error, kind))
    return HttpResponse(status=next(found, 500))


def result_of(response: HttpResponseBase) -> Counted | None:
    """ "failure" for an error or a form with errors, else "success"; None for a refusal by another
    limit, which was no attempt.
    """
    if response.status_code == 429 or getattr(response, "is_refusal", False):
        return None
    context: dict[str, Any] = getattr(response, "context_data", None) or {}
    form: Any = context.get("form")
    has_errors = getattr(form, "is_bound", False) and form.errors
    return "failure" if response.status_code >= 400 or has_errors else "success"
