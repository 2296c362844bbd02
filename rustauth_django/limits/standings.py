"""Reading the buckets on the server, and how each rule stands in them. Nothing is changed."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ..engine.backends import Backend
from ..engine.durations import ceil_seconds
from ..engine.keyspace import Keyspace, pages
from ..engine.operations import TimeToLive
from ..exceptions import BackendError
from .algorithms.consume import TTL_MARGIN_MS
from .clients import parse_address
from .keys import LOGIN
from .operations import UNDER_WAY, ReadFields
from .options import GuardOptions
from .paths import matches
from .rates import RateLimitRule
from .rules import STRICT, RuleSet, strict_path_limit
from .store import RateLimitStore


class Fields(NamedTuple):
    """The fields of a bucket, as stored, and its time to live in milliseconds."""

    fields: dict[str, str]
    ttl_ms: int | None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a rule stands in the bucket ``key``; None is for an unknown number. ``seconds_left`` is
    the time until the rule permits again, or, if it permits now, until the bucket is empty.
    """

    key: str
    rule: RateLimitRule | None = None
    used: int | None = None
    seconds_left: int | None = None
    refused: bool | None = None

    @property
    def limit(self) -> int | None:
        return None if self.rule is None else self.rule.capacity

    @property
    def fullness(self) -> tuple[bool, float, int]:
        """The sort key: the share of the limit that is used, or the count where the limit is not
        known.
        """
        used = self.used or 0
        return bool(self.limit), used / self.limit if self.limit else 0, used


def walk(backend: Backend, store: RateLimitStore) -> Iterator[tuple[Keyspace, str] | None]:
    """The keyspace and the logical key of each bucket, as a scan finds them. None stands for the
    end of a page, so that a long search can show progress.
    """
    for keyspace in store.keyspaces:
        for page in pages(backend, [keyspace.first_page()]):
            for physical in page:
                yield keyspace, keyspace.logical(physical)
            yield None


def standings(
    backend: Backend,
    store: RateLimitStore,
    wanted: Callable[[str], bool],
    rule_of: Callable[[str], RateLimitRule | None],
) -> Iterator[list[Standing]]:
    """How all rules stand in each bucket whose key is ``wanted``; an empty list for others.

    RustAuth's buckets do not contain their limit; ``rule_of(key)`` may know it.
    """
    for found in walk(backend, store):
        yield _stand(backend, store, *found, rule_of) if found and wanted(found[1]) else []


def _stand(
    backend: Backend,
    store: RateLimitStore,
    keyspace: Keyspace,
    key: str,
    rule_of: Callable[[str], RateLimitRule | None],
) -> list[Standing]:
    found = read_bucket(backend, keyspace.physical(key))
    if found is None:
        return []  # It has expired since it was found.
    if not found.fields:
        return [Standing(key)]
    is_rustauths = keyspace is store.keyspaces[0]
    slots = [field for field in found.fields if not field.endswith(UNDER_WAY)]
    rules = [rule_of(key)] if is_rustauths else [rule_named(slot) for slot in slots]
    known = [rule for rule in rules if rule]
    decisions = backend.run(store.inspection((key, rule) for rule in known)) if known else ()
    stands = [
        Standing(
            key,
            decision.rule,
            decision.limit - decision.remaining,
            decision.retry_after or decision.reset_after,
            not decision.permitted,
        )
        for decision in decisions
    ]
    left = None if found.ttl_ms is None else ceil_seconds(found.ttl_ms - TTL_MARGIN_MS)
    count = found.fields.get("count", "") if is_rustauths else ""
    used = int(count) if count.isdecimal() and len(count) <= 16 else None
    return [*stands, Standing(key, None, used, left)] if None in rules else stands


def read_bucket(backend: Backend, physical: str) -> Fields | None:
    """The fields of a bucket; None if there is none, and empty for a key of another type.

    To be read before a peek, whose script removes a key of another type.
    """
    try:
        fields = backend.run(ReadFields(physical))
    except BackendError as error:
        if "WRONGTYPE" not in error.reason:
            raise
        return Fields({}, None)
    return Fields(fields, backend.run(TimeToLive(physical))) if fields else None


def rule_named(name: str) -> RateLimitRule | None:
    """The rule of this name; None for a field that this app did not write."""
    try:
        return RateLimitRule.named(name)
    except ValueError:
        return None


def rule_in_force(options: GuardOptions, key: str) -> RateLimitRule | None:
    """The only rule with RustAuth's window that the settings have for a key; None if there is not
    exactly one.
    """
    subject, _, bucket = key.partition("|")
    rules: Iterable[RateLimitRule] = ()
    if bucket == LOGIN:
        login = options.login
        rules = login.account if subject.startswith("account:") else login.address
    elif bucket.startswith("/") and (subject == "missing-ip" or parse_address(subject)):
        rules = _rules_of(options.rules, bucket)
    found = [rule for rule in rules if rule.slot == ""]
    return found[0] if len(found) == 1 else None


def _rules_of(rules: RuleSet, bucket: str) -> tuple[RateLimitRule, ...]:
    """The rules of one of the middleware's buckets: the path's own, or those it names."""
    path, _, name = bucket.partition("|")
    for entry in rules.entries:
        selector = entry.selector
        # A function's rules have buckets of their own, or it returns the rule of a later entry.
        if not callable(entry.rule):
            owns = selector.by == "path" and not selector.methods and matches(selector.value, path)
            if name == str(selector) or (owns and not name):
                return entry.rule or ()
    if not name:
        strict = strict_path_limit(path)
        return strict[1] if strict else (rules.default,)
    named = {**STRICT, "default": rules.default}
    return (named[name],) if name in named else ()
