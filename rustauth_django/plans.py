"""One logic, two faces.

A plan is a generator: it yields steps, is sent each step's answer and returns its
result. It never waits. Waiting is the business of the two drivers below, the only
place where sync and async differ. What a step raises is thrown into the plan, which
may catch it like any other exception.
"""

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeAlias, TypeVar

S = TypeVar("S")
T = TypeVar("T")
Plan: TypeAlias = Generator[S, Any, T]


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
