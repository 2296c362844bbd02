"""One-time tokens and short codes, on the server that the settings name.

Each function is the method of that name of ``tokens.VerificationStore``, which says more.
"""

from ..conf import Settings
from ..connections import get_feature
from ..engine.durations import Seconds
from ..stores import RustAuthStores
from .records import Verification
from .store import VerificationStore

__all__ = [
    "Verification",
    "aconsume",
    "aconsume_code",
    "acreate",
    "acreate_code",
    "apeek",
    "arevoke",
    "consume",
    "consume_code",
    "create",
    "create_code",
    "peek",
    "revoke",
]


def _build(settings: Settings, stores: RustAuthStores) -> VerificationStore:
    return VerificationStore(
        stores.backend,
        secret=settings.rate_limit.visitors.secret,
        key_prefix=settings.key_prefix,
        plain=settings.plain_tokens,
    )


def _store() -> VerificationStore:
    return get_feature(_build)


def create(purpose: str, value: str = "", *, ttl: Seconds, identifier: str | None = None) -> str:
    """A new token for ``value``, which works once within ``ttl`` seconds."""
    return _store().create(purpose, value, ttl=ttl, identifier=identifier)


async def acreate(
    purpose: str, value: str = "", *, ttl: Seconds, identifier: str | None = None
) -> str:
    return await _store().acreate(purpose, value, ttl=ttl, identifier=identifier)


def consume(purpose: str, token: str) -> Verification | None:
    """What the token stands for, once: of many callers one gets it."""
    return _store().consume(purpose, token)


async def aconsume(purpose: str, token: str) -> Verification | None:
    return await _store().aconsume(purpose, token)


def peek(purpose: str, token: str) -> Verification | None:
    """What the token stands for, which it goes on doing."""
    return _store().peek(purpose, token)


async def apeek(purpose: str, token: str) -> Verification | None:
    return await _store().apeek(purpose, token)


def revoke(purpose: str, token: str) -> bool:
    """The token works no more. Was there one?"""
    return _store().revoke(purpose, token)


async def arevoke(purpose: str, token: str) -> bool:
    return await _store().arevoke(purpose, token)


def create_code(
    purpose: str,
    identifier: str,
    value: str = "",
    *,
    ttl: Seconds,
    digits: int = 6,
    attempts: int = 5,
) -> str:
    """A new code for whom ``identifier`` names; so many wrong ``attempts``, and it is gone."""
    return _store().create_code(
        purpose, identifier, value, ttl=ttl, digits=digits, attempts=attempts
    )


async def acreate_code(
    purpose: str,
    identifier: str,
    value: str = "",
    *,
    ttl: Seconds,
    digits: int = 6,
    attempts: int = 5,
) -> str:
    return await _store().acreate_code(
        purpose, identifier, value, ttl=ttl, digits=digits, attempts=attempts
    )


def consume_code(purpose: str, identifier: str, code: str) -> Verification | None:
    """What the code stands for, once; None for a wrong one, which counts as an attempt."""
    return _store().consume_code(purpose, identifier, code)


async def aconsume_code(purpose: str, identifier: str, code: str) -> Verification | None:
    return await _store().aconsume_code(purpose, identifier, code)
