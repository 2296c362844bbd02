"""The short-lived state of authentication for Django, on Redis and Valkey."""

from .exceptions import BackendError, BackendUnavailable, InvalidConfig, RustAuthError
from .ratelimit import RateLimitStore
from .rates import RateLimitDecision, RateLimitRule
from .storage import SecondaryStorage
from .stores import RustAuthStores

__version__ = "0.1.0"
__all__ = [
    "BackendError",
    "BackendUnavailable",
    "InvalidConfig",
    "RateLimitDecision",
    "RateLimitRule",
    "RateLimitStore",
    "RustAuthError",
    "RustAuthStores",
    "SecondaryStorage",
]
