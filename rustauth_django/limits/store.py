"""Rate limits: one atomic decision per request, whatever the number of limits."""

from collections.abc import Collection, Iterable

from ..engine.backends import Backend
from ..engine.keyspace import (
    DEFAULT_PREFIX,
    DEFAULT_SCAN_COUNT,
    Keyspace,
    aclear_pages,
    clear_pages,
)
from ..engine.operations import Scan
from ..exceptions import InvalidConfig
from .algorithms.consume import MAX_NOW_MS
from .operations import Bucket, Consume, Forget
from .rates import RateLimitDecision, RateLimitRule, binding


class RateLimitStore:
    """Buckets under ``{key_prefix}rate-limit:``, as RustAuth counts them, and ``limits:``.

    A bucket is any string; the middleware's are ``{address}|{path}`` (KEY-02). RustAuth's
    window is kept on RustAuth's wire; what other algorithms count is a field of its own
    for each rule, in a hash that no RustAuth service meets. Every method has an async
    twin. A rule that cannot be applied is an ``InvalidConfig``, before any I/O (RL-01 to
    RL-07). A server that fails is a ``BackendError``, one that is away a
    ``BackendUnavailable``.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        key_prefix: str = DEFAULT_PREFIX,
        scan_count: int = DEFAULT_SCAN_COUNT,
    ) -> None:
        self.backend = backend
        self.keyspaces = tuple(
            Keyspace(key_prefix, namespace, "rate limit", scan_count)
            for namespace in ("rate-limit", "limits")
        )

    def __repr__(self) -> str:
        return f"<RateLimitStore {self.keyspaces[0].prefix!r} on {self.backend.location}>"

    def consume(
        self, key: str, rule: RateLimitRule, now_ms: int | None = None, *, cost: int = 1
    ) -> RateLimitDecision:
        """Spend ``cost`` and say whether that was permitted; if not, nothing is spent.

        ``now_ms`` is epoch milliseconds; None, as it should be outside of tests, means
        the server's own clock.
        """
        return self.backend.run(_spend((self._bucket(key, rule),), now_ms, cost))[0]

    async def aconsume(
        self, key: str, rule: RateLimitRule, now_ms: int | None = None, *, cost: int = 1
    ) -> RateLimitDecision:
        operation = _spend((self._bucket(key, rule),), now_ms, cost)
        return (await self.backend.arun(operation))[0]

    def consume_all(
        self,
        limits: Iterable[tuple[str, RateLimitRule]],
        now_ms: int | None = None,
        *,
        cost: int = 1,
    ) -> RateLimitDecision:
        """Spend ``cost`` of every limit, or, if one refuses, of none; one round trip.

        The decision is the binding one: of those that refuse, the one that does so for
        longest; else the one with the least left. Its ``key`` and ``rule`` say which.
        """
        return binding(self.backend.run(self.consumption(limits, now_ms, cost)))

    async def aconsume_all(
        self,
        limits: Iterable[tuple[str, RateLimitRule]],
        now_ms: int | None = None,
        *,
        cost: int = 1,
    ) -> RateLimitDecision:
        return binding(await self.backend.arun(self.consumption(limits, now_ms, cost)))

    def peek(self, key: str, rule: RateLimitRule, now_ms: int | None = None) -> RateLimitDecision:
        """How the bucket stands, and whether a request would be permitted; nothing changes."""
        return self.backend.run(self.inspection([(key, rule)], now_ms))[0]

    async def apeek(
        self, key: str, rule: RateLimitRule, now_ms: int | None = None
    ) -> RateLimitDecision:
        return (await self.backend.arun(self.inspection([(key, rule)], now_ms)))[0]

    def refund(
        self, key: str, rule: RateLimitRule, amount: int = 1, now_ms: int | None = None
    ) -> RateLimitDecision:
        """Give back ``cost``, at most what this window has spent; how the bucket then stands."""
        return self.backend.run(self._refund(key, rule, amount, now_ms))[0]

    async def arefund(
        self, key: str, rule: RateLimitRule, amount: int = 1, now_ms: int | None = None
    ) -> RateLimitDecision:
        return (await self.backend.arun(self._refund(key, rule, amount, now_ms)))[0]

    def reset(self, key: str) -> bool:
        """Forget everything that ``key`` has spent, so that a blocked client may go on. Was there
        any?
        """
        return self.backend.run(self.forgetting([key])) > 0

    async def areset(self, key: str) -> bool:
        return await self.backend.arun(self.forgetting([key])) > 0

    def clear(self) -> int:
        """Forget every bucket of this prefix, but no stored value; how many there were."""
        return sum(clear_pages(self.backend, self.first_pages()))

    async def aclear(self) -> int:
        counts = aclear_pages(self.backend, self.first_pages())
        return sum([count async for count in counts])

    def first_pages(self) -> list[Scan]:
        """Where a walk over all buckets starts."""
        return [keyspace.first_page() for keyspace in self.keyspaces]

    def consumption(
        self,
        limits: Iterable[tuple[str, RateLimitRule]],
        now_ms: int | None = None,
        cost: int = 1,
    ) -> Consume:
        """The operation of ``consume_all``, for callers that run it themselves."""
        return _spend(self._buckets(limits), now_ms, cost)

    def attempt(
        self,
        limits: Iterable[tuple[str, RateLimitRule]],
        noted: Collection[str] = (),
        now_ms: int | None = None,
    ) -> Consume:
        """The same for a request that will be settled; the buckets of the keys in ``noted`` list it
        as under way.
        """
        buckets = [
            bucket._replace(notes_attempts=bucket.key in noted) for bucket in self._buckets(limits)
        ]
        return _spend(tuple(buckets), now_ms, 1)

    def inspection(
        self, limits: Iterable[tuple[str, RateLimitRule]], now_ms: int | None = None
    ) -> Consume:
        """The operation of ``peek``, for several limits at once."""
        if now_ms is not None:
            _require_time(now_ms)
        return Consume(self._buckets(limits), now_ms, 0)

    def forgetting(self, keys: Iterable[str]) -> Forget:
        """The operation of ``reset``, for several keys at once."""
        return Forget(tuple(space.physical(key) for key in keys for space in self.keyspaces))

    def _refund(self, key: str, rule: RateLimitRule, amount: int, now_ms: int | None) -> Consume:
        _require_amount(amount, "amount")
        if now_ms is not None:
            _require_time(now_ms)
        return Consume((self._bucket(key, rule),), now_ms, -min(amount, MAX_NOW_MS))

    def _buckets(self, limits: Iterable[tuple[str, RateLimitRule]]) -> tuple[Bucket, ...]:
        buckets = tuple([self._bucket(key, rule) for key, rule in limits])
        if len(buckets) == 1:
            return buckets
        if not buckets:
            raise InvalidConfig("there must be at least one rate limit")
        counters: dict[tuple[str, str], Bucket] = {}
        for bucket in buckets:
            known = counters.setdefault((bucket.physical, bucket.rule.slot), bucket)
            if known is not bucket and known != bucket:
                raise InvalidConfig("two rate limits on one key must not share a counter")
        return tuple(counters.values())

    def _bucket(self, key: str, rule: RateLimitRule) -> Bucket:
        if not isinstance(rule, RateLimitRule):
            raise TypeError(f"rule must be a RateLimitRule, not {type(rule).__name__}")
        rule.validate()
        keyspace = self.keyspaces[rule.slot != ""]
        return Bucket(keyspace.physical(key), rule, key)


def _spend(buckets: tuple[Bucket, ...], now_ms: int | None, cost: int) -> Consume:
    if type(cost) is not int or cost <= 0:
        _require_amount(cost, "cost")
    for bucket in buckets:
        if cost > bucket.rule.capacity:
            raise InvalidConfig("rate limit cost must not be greater than max")
    if now_ms is not None:
        _require_time(now_ms)
    return Consume(buckets, now_ms, cost)


def _require_time(now_ms: int) -> None:
    _require_int(now_ms, "now_ms")
    if not 0 <= now_ms <= MAX_NOW_MS:
        raise InvalidConfig("rate limit now_ms must be a time in epoch milliseconds")


def _require_amount(value: int, name: str) -> None:
    _require_int(value, name)
    if value <= 0:
        raise InvalidConfig(f"rate limit {name} must be greater than zero")


def _require_int(value: int, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
