"""A rate limit, and what it decided."""

from dataclasses import dataclass, field

from .durations import MAX_I64, Seconds, to_milliseconds
from .exceptions import InvalidConfig


@dataclass(frozen=True, slots=True)
class RateLimitRule:
    """At most ``max`` requests, with no gap longer than ``window`` seconds between them.

    ``window`` is an int, or a float or ``timedelta`` where fractions of a second
    matter; whole milliseconds count. Wrong types are a ``TypeError`` here, wrong
    sizes an ``InvalidConfig`` when a store is asked to apply the rule (RL-01 to RL-06).
    """

    window: Seconds
    max: int
    window_ms: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.max, bool) or not isinstance(self.max, int):
            raise TypeError(f"max must be an int, not {type(self.max).__name__}")
        object.__setattr__(self, "window_ms", to_milliseconds(self.window, "window"))

    def validate(self) -> None:
        """Raise ``InvalidConfig`` for a rule that no store can apply; in this order (RL-06)."""
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


@dataclass(frozen=True, slots=True)
class RateLimitDecision:
    """The answer to one request. Every time is in whole seconds, rounded up.

    ``retry_after`` is 0 when permitted and at least 1 when not; ``reset_after`` is
    when the bucket is whole again if nothing else happens (RL-13 to RL-18).
    """

    permitted: bool
    retry_after: int
    limit: int
    remaining: int
    reset_after: int
