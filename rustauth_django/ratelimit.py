"""Rate limits: one atomic decision per request."""

from .algorithms.rustauth import MAX_NOW_MS
from .backends.base import Backend
from .exceptions import InvalidConfig
from .keyspace import (
    DEFAULT_PREFIX,
    DEFAULT_SCAN_COUNT,
    Keyspace,
    aclear_pages,
    clear_pages,
)
from .operations import Consume, Forget
from .rates import RateLimitDecision, RateLimitRule


class RateLimitStore:
    """Buckets under ``{key_prefix}rate-limit:``, counted as RustAuth counts them.

    A bucket is any string; the middleware's are ``{address}|{path}`` (KEY-02). Every
    method has an async twin. A rule that cannot be applied is an ``InvalidConfig``,
    before any I/O (RL-01 to RL-07). A server that fails is a ``BackendError``, one that
    is away a ``BackendUnavailable``.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        key_prefix: str = DEFAULT_PREFIX,
        scan_count: int = DEFAULT_SCAN_COUNT,
    ) -> None:
        self._backend = backend
        self.keyspace = Keyspace(key_prefix, "rate-limit", "rate limit", scan_count)

    def __repr__(self) -> str:
        return f"<RateLimitStore {self.keyspace.prefix!r} on {self._backend.location}>"

    def consume(
        self, key: str, rule: RateLimitRule, now_ms: int | None = None, *, cost: int = 1
    ) -> RateLimitDecision:
        """Spend ``cost`` and say whether that was permitted; if not, nothing is spent.

        ``now_ms`` is epoch milliseconds; None, as it should be outside of tests, means
        the server's own clock.
        """
        return self._backend.run(self.consumption(key, rule, now_ms, cost))

    async def aconsume(
        self, key: str, rule: RateLimitRule, now_ms: int | None = None, *, cost: int = 1
    ) -> RateLimitDecision:
        return await self._backend.arun(self.consumption(key, rule, now_ms, cost))

    def peek(self, key: str, rule: RateLimitRule, now_ms: int | None = None) -> RateLimitDecision:
        """How the bucket stands, and whether a request would be permitted; changes nothing."""
        return self._backend.run(self._operation(key, rule, now_ms, 0))

    async def apeek(
        self, key: str, rule: RateLimitRule, now_ms: int | None = None
    ) -> RateLimitDecision:
        return await self._backend.arun(self._operation(key, rule, now_ms, 0))

    def refund(
        self, key: str, rule: RateLimitRule, amount: int = 1, now_ms: int | None = None
    ) -> RateLimitDecision:
        """Give back what was spent in this window, never more; how the bucket then stands."""
        return self._backend.run(self._refund(key, rule, amount, now_ms))

    async def arefund(
        self, key: str, rule: RateLimitRule, amount: int = 1, now_ms: int | None = None
    ) -> RateLimitDecision:
        return await self._backend.arun(self._refund(key, rule, amount, now_ms))

    def reset(self, key: str) -> bool:
        """Forget one bucket: whoever it blocked may go on. Was there one?"""
        return self._backend.run(Forget(self.keyspace.physical(key)))

    async def areset(self, key: str) -> bool:
        return await self._backend.arun(Forget(self.keyspace.physical(key)))

    def clear(self) -> int:
        """Forget every bucket of this prefix, and no stored value; how many there were."""
        return sum(clear_pages(self._backend, self.keyspace.first_page()))

    async def aclear(self) -> int:
        counts = aclear_pages(self._backend, self.keyspace.first_page())
        return sum([count async for count in counts])

    def consumption(
        self, key: str, rule: RateLimitRule, now_ms: int | None = None, cost: int = 1
    ) -> Consume:
        """What ``consume`` asks of the backend, for whoever drives it themselves."""
        if not _is_amount(cost, "cost"):
            raise InvalidConfig("rate limit cost must be greater than zero")
        operation = self._operation(key, rule, now_ms, cost)
        if cost > rule.max:
            raise InvalidConfig("rate limit cost must not be greater than max")
        return operation

    def _refund(self, key: str, rule: RateLimitRule, amount: int, now_ms: int | None) -> Consume:
        if not _is_amount(amount, "amount"):
            raise InvalidConfig("rate limit amount must be greater than zero")
        return self._operation(key, rule, now_ms, -min(amount, MAX_NOW_MS))

    def _operation(self, key: str, rule: RateLimitRule, now_ms: int | None, cost: int) -> Consume:
        if not isinstance(rule, RateLimitRule):
            raise TypeError(f"rule must be a RateLimitRule, not {type(rule).__name__}")
        rule.validate()
        if now_ms is not None and not 0 <= _integer(now_ms, "now_ms") <= MAX_NOW_MS:
            raise InvalidConfig("rate limit now_ms must be a time in epoch milliseconds")
        return Consume(self.keyspace.physical(key), rule, now_ms, cost)


def _integer(value: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    return value


def _is_amount(value: int, name: str) -> bool:
    return _integer(value, name) > 0
