"""One-time tokens and short codes, on the server that the settings name.

Each function is the method of that name of ``tokens.VerificationStore``, which says more.
"""

from .connections import get_verification_store
from .durations import Seconds
from .records import Verification

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


def create(purpose: str, value: str = "", *, ttl: Seconds, identifier: str | None = None) -> str:
    """A new token for ``value``, which works once within ``ttl`` seconds."""
    return get_verification_store().create(purpose, value, ttl=ttl, identifier=identifier)


async def acreate(
    purpose: str, value: str = "", *, ttl: Seconds, identifier: str | None = None
) -> str:
    return await get_verification_store().acreate(purpose, value, ttl=ttl, identifier=identifier)


def consume(purpose: str, token: str) -> Verification | None:
    """What the token stands for, once: of many callers one gets it."""
    return get_verification_store().consume(purpose, token)


async def aconsume(purpose: str, token: str) -> Verification | None:
    return await get_verification_store().aconsume(purpose, token)


def peek(purpose: str, token: str) -> Verification | None:
    """What the token stands for, which it goes on doing."""
    return get_verification_store().peek(purpose, token)


async def apeek(purpose: str, token: str) -> Verification | None:
    return await get_verification_store().apeek(purpose, token)


def revoke(purpose: str, token: str) -> bool:
    """The token works no more. Was there one?"""
    return get_verification_store().revoke(purpose, token)


async def arevoke(purpose: str, token: str) -> bool:
    return await get_verification_store().arevoke(purpose, token)


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
    return get_verification_store().create_code(
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
    return await get_verification_store().acreate_code(
        purpose, identifier, value, ttl=ttl, digits=digits, attempts=attempts
    )


def consume_code(purpose: str, identifier: str, code: str) -> Verification | None:
    """What the code stands for, once; None for a wrong one, which counts as an attempt."""
    return get_verification_store().consume_code(purpose, identifier, code)


async def aconsume_code(purpose: str, identifier: str, code: str) -> Verification | None:
    return await get_verification_store().aconsume_code(purpose, identifier, code)
