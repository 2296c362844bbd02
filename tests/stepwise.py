"""Plans that are interrupted between two steps, as another request may do it."""

from collections.abc import Callable
from typing import Any

from rustauth_django.connections import get_stores
from rustauth_django.engine.plans import Call, Plan, drive


def after_step(number: int, plan: Plan[Any, Any], meanwhile: Callable[[], object]) -> Any:
    """Drive a plan, and do something else once so many of its steps are done. Its result."""
    done = 0

    def perform(step: Any) -> Any:
        nonlocal done
        if done == number:
            meanwhile()
        done += 1
        return step.run() if isinstance(step, Call) else get_stores().backend.run(step)

    result = drive(plan, perform)
    assert done > number, f"the plan has {done} steps"
    return result
