"""One test, both faces: an object whose methods are the sync ones or their async twins."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any


class Face:
    """Calls ``name`` of a target, or runs its twin ``a{name}`` to the end on a loop of its own."""

    def __init__(self, target: Any, runner: asyncio.Runner | None) -> None:
        self.target = target
        self.runner = runner

    def __getattr__(self, name: str) -> Any:
        if self.runner is None:
            return getattr(self.target, name)
        twin = getattr(self.target, f"a{name}")
        runner = self.runner

        def call(*args: Any, **kwargs: Any) -> Any:
            result = twin(*args, **kwargs)
            return runner.run(_finish(result))

        return call


async def _finish(result: Awaitable[Any] | AsyncIterator[Any]) -> Any:
    if isinstance(result, AsyncIterator):
        return [item async for item in result]
    return await result
