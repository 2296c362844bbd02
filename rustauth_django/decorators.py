"""What a view may say about its limits."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from asgiref.sync import iscoroutinefunction

View = TypeVar("View", bound=Callable[..., Any])


def rate_limit_exempt(view: View) -> View:
    """Mark a view, sync or async, as one that ``RateLimitMiddleware`` passes over.

    On a class: ``@method_decorator(rate_limit_exempt, name="dispatch")``.
    """

    async def async_wrapper(*args: Any, **kwargs: Any) -> Any:
        return await view(*args, **kwargs)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs)

    exempt = wraps(view)(async_wrapper if iscoroutinefunction(view) else wrapper)
    exempt.rate_limit_exempt = True  # type: ignore[attr-defined]  # as csrf_exempt does
    return cast(View, exempt)
