"""A rate limit, and its decision."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, TypeAlias, get_args

from ..engine.durations import MAX_I64, Seconds, to_milliseconds
from ..exceptions import InvalidConfig
from .grammar import Rate, parse_rate, parse_rates

AlgorithmName: TypeAlias = Literal[
    "rustauth", "fixed-window", "sliding-window", "sliding-log", "gcra", "lockout"
]
#: The values of the setting ON_ERROR: the policy while the server is away.
OnError: TypeAlias = Literal["local", "deny", "allow", "raise"]
ALGORITHM_NAMES: tuple[str, ...] = get_args(AlgorithmName)

# Lua's numbers are doubles: whole numbers are exact up to this one.
LATEST_MS = 2**53
# Sums of two products of this size are still exact.
MAX_PRODUCT = 2**52
MAX_SPELLED = 10**100
# A log has six bytes for each request.
MAX_LOG = 1_000
MAX_ESCALATION = 16


@dataclass(frozen=True, slots=True)
class RateLimitRule:
    """At most ``max`` requests in ``window`` seconds, as ``algorithm`` counts them.

    ``window`` is an int, or a float or ``timedelta`` where fractions of a second matter; whole
    milliseconds count. A rule without an ``algorithm`` is RustAuth's window in a ``RateLimitStore``
    and below the base path; everywhere else it is what ``as_written`` makes of it. ``burst``, for
    gcra, is how many may come at once (by default ``max``). ``escalate``, for lockout, is the
    seconds of the first block, of the second, and so on.

    Wrong types are a ``TypeError`` here, wrong sizes an ``InvalidConfig`` when a store
    is asked to apply the rule (RL-01 to RL-06).
    """

    window: Seconds
    max: int
    algorithm: AlgorithmName | None = None
    burst: int | None = None
    escalate: tuple[int, ...] = ()
    window_ms: int = field(init=False, repr=False, compare=False)
    #: The algorithm by which a store counts it.
    counted_by: AlgorithmName = field(init=False, repr=False, compare=False)
    #: The numbers of the rule for the algorithm's ``step``: window (ms), capacity, and more.
    numbers: tuple[int, ...] = field(init=False, repr=False, compare=False)
    #: The field of the bucket's hash with its count; "" stands for RustAuth's own fields.
    slot: str = field(init=False, repr=False, compare=False)
    #: How many requests may come at once.
    capacity: int = field(init=False, repr=False, compare=False)
    #: A name that tells this rule from others on the same subject.
    name: str = field(init=False, repr=False, compare=False)
    #: The arguments for a script: the slot, and the numbers in eight bytes each.
    arguments: tuple[bytes, bytes] = field(init=False, repr=False, compare=False)
    _is_valid: bool = field(init=False, repr=False, compare=False, default=False)
    _written: Self | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        _require_int(self.max, "max")
        if self.burst is not None:
            _require_int(self.burst, "burst")
        if not isinstance(self.algorithm, str | None):
            raise TypeError(f"algorithm must be a str, not {type(self.algorithm).__name__}")
        if not isinstance(self.escalate, list | tuple):
            raise TypeError(f"escalate must be a tuple, not {type(self.escalate).__name__}")
        for seconds in self.escalate:
            _require_int(seconds, "escalate")
        window_ms = to_milliseconds(self.window, "window")
        capacity = self.burst or self.max
        counted_by = self.algorithm or "rustauth"
        blocks = [seconds * 1000 for seconds in self.escalate]
        extra = {"gcra": [self.max], "lockout": blocks}.get(counted_by, [])
        numbers = (window_ms, capacity, *extra)
        more = blocks if counted_by == "lockout" else filter(None, [self.burst])
        name = ":".join([counted_by, *map(_spelled, [self.max, window_ms, *more])])
        slot = "" if counted_by == "rustauth" else name
        exact = [max(0, min(number, LATEST_MS)) for number in numbers]
        packed = struct.pack(f">{len(exact)}Q", *exact)
        for attribute, value in {
            "escalate": tuple(self.escalate),
            "window_ms": window_ms,
            "counted_by": counted_by,
            "numbers": numbers,
            "slot": slot,
            "capacity": capacity,
            "name": name,
            "arguments": (slot.encode(errors="replace"), packed),
        }.items():
            object.__setattr__(self, attribute, value)

    @classmethod
    def parse(cls, text: str) -> Self:
        """A rule from ``5/m``, ``3/10s`` or ``10/s burst 20``.

        It is gcra where there is a burst, or else ``as_written``. Raises ``InvalidConfig``,
        which quotes the text and shows the grammar.
        """
        return cls._of(parse_rate(_text(text)))

    @classmethod
    def parse_all(cls, text: str) -> tuple[Self, ...]:
        """The rules of one rate or of several, joined by ``;``."""
        return tuple(map(cls._of, parse_rates(_text(text))))

    @classmethod
    def _of(cls, rate: Rate) -> Self:
        rule = cls(rate.window, rate.max, "gcra" if rate.burst else None, rate.burst).as_written()
        try:
            rule.validate()
        except InvalidConfig as error:
            raise InvalidConfig(f"the rate {rate.text!r} cannot be counted: {error}") from None
        return rule

    @classmethod
    def named(cls, name: str) -> Self:
        """The rule with this ``name``. Raises ``ValueError`` if there is none."""
        algorithm, max, window_ms, *more = name.split(":")
        try:
            window = int(window_ms) / 1000
            if algorithm == "lockout":
                escalate = tuple(int(ms) // 1000 for ms in more)
                rule = cls(window, int(max), "lockout", escalate=escalate)
            else:
                rule = cls(window, int(max), algorithm, *map(int, more))  # type: ignore[arg-type]  # checked below
        except (TypeError, OverflowError):
            raise ValueError(name) from None
        rule.validate()
        if rule.name != name:
            raise ValueError(name)
        return rule

    def as_written(self) -> Self:
        """The rule with an algorithm that never refuses a client that stays within ``max`` in every
        window.

        This is a log, which also lets no more than ``max`` through in any window, and above
        ``MAX_LOG`` fixed windows. A rule that has an algorithm keeps it.
        """
        if self.algorithm is not None:
            return self
        written = self._written
        if written is None:
            written = replace(
                self, algorithm="sliding-log" if self.max <= MAX_LOG else "fixed-window"
            )
            object.__setattr__(self, "_written", written)
        return written

    def __str__(self) -> str:
        burst = f" burst {self.burst}" if self.burst else ""
        return f"{self.max} in {self.window_ms / 1000:g} s{burst} ({self.counted_by})"

    def validate(self) -> None:
        """Raise ``InvalidConfig`` for a rule that no store can apply; checks in RustAuth's order
        (RL-06).
        """
        if self._is_valid:
            return
        if self.window == 0:
            raise InvalidConfig("rate limit window must be greater than zero")
        if self.max <= 0:
            raise InvalidConfig("rate limit max must be greater than zero")
        if self.window_ms <= 0:
            raise InvalidConfig("rate limit window must be greater than zero")
        if self.window_ms > MAX_I64:
            raise InvalidConfig("rate limit window is too large")
        if self.max > MAX_I64:
            raise InvalidConfig("rate limit max must fit in i64")
        self._validate_options()
        object.__setattr__(self, "_is_valid", True)

    def _validate_options(self) -> None:
        if self.counted_by not in ALGORITHM_NAMES:
            known = ", ".join(ALGORITHM_NAMES)
            raise InvalidConfig(f"rate limit algorithm must be one of {known}")
        if self.burst is not None and (self.counted_by != "gcra" or self.burst <= 0):
            raise InvalidConfig("rate limit burst must be greater than zero, and is for gcra")
        if bool(self.escalate) != (self.counted_by == "lockout"):
            raise InvalidConfig("rate limit escalate is for lockout, which needs it")
        if self.escalate and not (
            len(self.escalate) <= MAX_ESCALATION
            and all(0 < seconds <= MAX_PRODUCT // 1000 for seconds in self.escalate)
        ):
            raise InvalidConfig(f"rate limit escalate must be 1 to {MAX_ESCALATION} seconds > 0")
        if self.counted_by in ("sliding-log", "lockout") and self.max > MAX_LOG:
            raise InvalidConfig(f"rate limit max must be at most {MAX_LOG} for {self.counted_by}")
        product = max(self.max, self.capacity) * self.window_ms
        if self.counted_by != "rustauth" and product > MAX_PRODUCT:
            raise InvalidConfig(f"rate limit max times window is too large for {self.counted_by}")


# Not frozen: one is made for each request, and a frozen one takes six times as long to make.
@dataclass(slots=True, unsafe_hash=True)
class RateLimitDecision:
    """The answer to one request. Every time is in whole seconds, rounded up.

    ``retry_after`` is 0 when permitted and at least 1 when not; ``reset_after`` is when the bucket
    is empty again if nothing else happens (RL-13 to RL-18). Of several limits the decision is the
    binding one's; ``rule`` and ``key`` tell which that is.
    """

    permitted: bool
    retry_after: int
    limit: int
    remaining: int
    reset_after: int
    rule: RateLimitRule | None = field(default=None, compare=False)
    # It may contain an address or a name, which must not be logged.
    key: str = field(default="", repr=False, compare=False)
    #: ``retry_after`` in milliseconds, as the server sent it.
    retry_after_ms: int = field(default=0, repr=False, compare=False)
    #: Was the refusal answered from this process's memory, without asking the server?
    is_local: bool = field(default=False, repr=False, compare=False)
    #: When it was counted, in epoch milliseconds; ``Settle`` finds it by this time.
    counted_at_ms: int = field(default=0, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Uncounted:
    """The policy's answer to a request that could not be counted.

    ``retry_after`` is whole seconds, 0 if it is permitted.
    """

    permitted: bool
    retry_after: int


Verdict: TypeAlias = RateLimitDecision | Uncounted


def to_rules(rates: Any, *, as_written: bool = False) -> tuple[RateLimitRule, ...]:
    """Rules that a store can apply, from text, from a rule, or from an iterable of both.

    With ``as_written`` each rule gets the algorithm that it has outside of a store. Raises
    ``InvalidConfig``; ``TypeError`` for anything else.
    """
    if isinstance(rates, str):
        return RateLimitRule.parse_all(rates)
    if isinstance(rates, RateLimitRule):
        rates.validate()
        written = rates.as_written()
        written.validate()
        return (written if as_written else rates,)
    if not isinstance(rates, list | tuple) or not rates:
        raise TypeError(f"a rate must be text or a RateLimitRule, not {type(rates).__name__}")
    found = (rule for rate in rates for rule in to_rules(rate, as_written=as_written))
    # Of equal ones, however their windows are written, one is enough.
    rules = tuple({rule.name: rule for rule in found}.values())
    if sum(rule.slot == "" for rule in rules) > 1:
        raise InvalidConfig(
            "two rules with RustAuth's window would share a counter; write rates as text, or"
            " name another algorithm"
        )
    return rules


def binding(decisions: Sequence[RateLimitDecision]) -> RateLimitDecision:
    """Of several limits' decisions, the one that tells a client what to do."""
    return decisions[0] if len(decisions) == 1 else min(decisions, key=_leeway)


def _leeway(one: RateLimitDecision) -> tuple[bool, int, int, int]:
    return one.permitted, -one.retry_after_ms, one.remaining, -one.reset_after


def _spelled(number: int) -> str:
    """A number as text; Python does not spell those that are too large for any rule."""
    return str(number) if abs(number) < MAX_SPELLED else "too large"


def _require_int(value: object, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")


def _text(value: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a rate must be a str, not {type(value).__name__}")
    return value
