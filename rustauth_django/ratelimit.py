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
from .operations import Consume
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
        self, key: str, rule: RateLimitRule, now_ms: int | None = None
    ) -> RateLimitDecision:
        """Count one request and say whether it may pass; a refused one is not counted.

        ``now_ms`` is epoch milliseconds; None, as it should be outside of tests, means
        the server's own clock.
        """
        return self._backend.run(self.consumption(key, rule, now_ms))

    async def aconsume(
        self, key: str, rule: RateLimitRule, now_ms: int | None = None
    ) -> RateLimitDecision:
        return await self._backend.arun(self.consumption(key, rule, now_ms))

    def clear(self) -> int:
        """Forget every bucket of this prefix, and no stored value; how many there were."""
        return sum(clear_pages(self._backend, self.keyspace.first_page()))

    async def aclear(self) -> int:
        counts = aclear_pages(self._backend, self.keyspace.first_page())
        return sum([count async for count in counts])

    def consumption(self, key: str, rule: RateLimitRule, now_ms: int | None = None) -> Consume:
        """What ``consume`` asks of the backend, for whoever drives it themselves."""
        if not isinstance(rule, RateLimitRule):
            raise TypeError(f"rule must be a RateLimitRule, not {type(rule).__name__}")
        rule.validate()
        if now_ms is not None:
            if isinstance(now_ms, bool) or not isinstance(now_ms, int):
                raise TypeError(f"now_ms must be an int, not {type(now_ms).__name__}")
            if not 0 <= now_ms <= MAX_NOW_MS:
                raise InvalidConfig("rate limit now_ms must be a time in epoch milliseconds")
        return Consume(self.keyspace.physical(key), rule, now_ms)
