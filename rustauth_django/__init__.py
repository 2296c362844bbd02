"""The short-lived state of authentication for Django, on Redis and Valkey."""

from .connections import lazy_store
from .decorators import rate_limit, rate_limit_exempt
from .exceptions import (
    BackendError,
    BackendOverloaded,
    BackendUnavailable,
    InvalidConfig,
    RustAuthError,
)
from .limits.rates import RateLimitDecision, RateLimitRule
from .limits.store import RateLimitStore
from .storage import SecondaryStorage
from .stores import RustAuthStores

__version__ = "0.1.0"
__all__ = [
    "BackendError",
    "BackendOverloaded",
    "BackendUnavailable",
    "InvalidConfig",
    "RateLimitDecision",
    "RateLimitRule",
    "RateLimitStore",
    "RustAuthError",
    "RustAuthStores",
    "SecondaryStorage",
    "rate_limit",
    "rate_limit_exempt",
    "rate_limit_store",
    "secondary_storage",
]

#: The stores of ``settings.RUSTAUTH``, looked up at each use.
secondary_storage: SecondaryStorage = lazy_store("secondary_storage")
rate_limit_store: RateLimitStore = lazy_store("rate_limit_store")
