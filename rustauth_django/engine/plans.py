"""Plans: one logic for the sync and the async face.

A plan is a generator: it yields steps, is sent each step's answer and returns its result. A plan
never waits; the two drivers below do, and they are the only place where sync and async differ. An
exception of a step is thrown into the plan, which may catch it.
"""

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.dispatch import Signal

S = TypeVar("S")
T = TypeVar("T")
Plan: TypeAlias = Generator[S, Any, T]


@dataclass(frozen=True, slots=True)
class Call:
    """A step that calls a sync or async function from outside this app.

    In the other face it runs in a thread or on a loop of its own, as everywhere in Django, unless
    there is a ``twin`` of the other kind.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    twin: Callable[..., Awaitable[Any]] | None = None

    def run(self) -> Any:
        is_async = iscoroutinefunction(self.function)
        return (async_to_sync(self.function) if is_async else self.function)(*self.arguments)

    async def arun(self) -> Any:
        if self.twin is not None:
            return await self.twin(*self.arguments)
        is_async = iscoroutinefunction(self.function)
        return await (self.function if is_async else sync_to_async(self.function))(*self.arguments)


def send(signal: Signal, sender: Any, **named: Any) -> Plan[Call, None]:
    """Send a signal to its receivers, if there are any; their exceptions are logged, not raised."""
    if signal.has_listeners(sender):
        robust = partial(signal.send_robust, sender, **named)
        yield Call(robust, twin=partial(signal.asend_robust, sender, **named))


def drive(plan: Plan[S, T], perform: Callable[[S], Any]) -> T:
    """Run a plan to its end, performing each step as it comes."""
    try:
        step = next(plan)
        while True:
            try:
                answer = perform(step)
            except Exception as error:  # noqa: BLE001  # the plan decides
                step = plan.throw(error)
            else:
                step = plan.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result


async def adrive(plan: Plan[S, T], perform: Callable[[S], Awaitable[Any]]) -> T:
    """Run a plan to its end, awaiting each step as it comes."""
    try:
        step = next(plan)
        while True:
            try:
                answer = await perform(step)
            except Exception as error:  # noqa: BLE001  # the plan decides
                step = plan.throw(error)
            else:
                step = plan.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
