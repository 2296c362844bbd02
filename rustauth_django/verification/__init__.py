"""One-time tokens and short codes, on the server that the settings name.

Each function is the method of that name of ``VerificationStore``, which says more.
"""

from collections.abc import Callable
from inspect import iscoroutinefunction, signature
from typing import Any, Concatenate, ParamSpec, TypeVar

from ..conf import Settings
from ..connections import get_feature
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


P = ParamSpec("P")
T = TypeVar("T")


def _build(settings: Settings, stores: RustAuthStores) -> VerificationStore:
    return VerificationStore(
        stores.backend,
        secret=settings.rate_limit.visitors.secret,
        key_prefix=settings.key_prefix,
        plain=settings.plain_tokens,
    )


def _on_settings(method: Callable[Concatenate[VerificationStore, P], T]) -> Callable[P, T]:
    """A method as a function, on the store of the settings; looked up at each call."""

    def function(*args: P.args, **kwargs: P.kwargs) -> T:
        return method(get_feature(_build), *args, **kwargs)

    async def afunction(*args: P.args, **kwargs: P.kwargs) -> Any:
        waiting: Any = method(get_feature(_build), *args, **kwargs)
        return await waiting

    own = signature(method)
    named: Any = afunction if iscoroutinefunction(method) else function
    named.__name__ = named.__qualname__ = method.__name__
    named.__doc__ = method.__doc__
    named.__signature__ = own.replace(parameters=list(own.parameters.values())[1:])
    result: Callable[P, T] = named
    return result


create = _on_settings(VerificationStore.create)
acreate = _on_settings(VerificationStore.acreate)
consume = _on_settings(VerificationStore.consume)
aconsume = _on_settings(VerificationStore.aconsume)
peek = _on_settings(VerificationStore.peek)
apeek = _on_settings(VerificationStore.apeek)
revoke = _on_settings(VerificationStore.revoke)
arevoke = _on_settings(VerificationStore.arevoke)
create_code = _on_settings(VerificationStore.create_code)
acreate_code = _on_settings(VerificationStore.acreate_code)
consume_code = _on_settings(VerificationStore.consume_code)
aconsume_code = _on_settings(VerificationStore.aconsume_code)
