"""What this project wants to cost, beside what it cost."""

from dataclasses import dataclass

from .report import Table


@dataclass(frozen=True)
class Aim:
    text: str
    fact: str
    bound: float
    is_least: bool = False
    unit: str = ""

    def row(self, found: float | None) -> list[str]:
        bound = f"at {'least' if self.is_least else 'most'} {self.bound:g}{self.unit}"
        if found is None:
            return [self.text, bound, "not measured", ""]
        holds = found >= self.bound if self.is_least else found <= self.bound
        measured = f"{found:.2f}".removesuffix(".00") + self.unit
        return [self.text, bound, measured, "yes" if holds else "no"]


AIMS = [
    Aim("decision of the slowest algorithm but the log, to `INCR`", "decision", 0.9),
    Aim("decision of the log, its slowest state, to `INCR`", "log", 0.95),
    Aim("two limits at once, to one", "two limits", 1.25),
    Aim("refusal from the process's memory, to `INCR`", "local refusal", 0.15),
    Aim("server's time for a decision, to the same calls and nothing else", "server", 1.5),
    Aim("async throughput with 64 tasks, to throttled-py's", "64 tasks", 4, is_least=True),
    Aim("async decision with 1 task, to redis.asyncio's `INCR`", "1 task", 1),
    Aim("what the middleware adds under WSGI, to `INCR`", "wsgi", 1.3),
    Aim("what the middleware adds under ASGI, to redis.asyncio's `INCR`", "asgi", 1.3),
    Aim("load of a session, to Django's cache session", "session load", 0.8),
    Aim("save of a session, to Django's cache session", "session save", 0.7),
    Aim("`rustauth_list_keys`, to a bare SCAN loop", "list keys", 3),
    Aim("memory that `rustauth_clear` takes", "clear memory", 20, unit=" MiB"),
    Aim("requests that 8 processes are let through above or below a limit", "inexact", 0),
    Aim("sessions that outlive their revocation", "revived", 0),
]


def summary(facts: dict[str, float]) -> Table:
    """Every aim, and whether it was reached."""
    return Table(["", "aim", "measured", "reached"], [aim.row(facts.get(aim.fact)) for aim in AIMS])
