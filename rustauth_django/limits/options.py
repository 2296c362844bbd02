"""The limits of a site, as its settings say."""

from dataclasses import dataclass

from .access import Access
from .keys import Visitors
from .rates import OnError, RateLimitRule
from .rules import RuleSet


@dataclass(frozen=True, slots=True)
class LoginRules:
    """How many failed logins an account may have, and an address.

    ``device_age`` is for how many seconds a browser is known that has signed in; None for not at
    all.
    """

    account: tuple[RateLimitRule, ...]
    address: tuple[RateLimitRule, ...]
    device_age: int | None


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """``RUSTAUTH["RATE_LIMIT"]``, read and checked."""

    enabled: bool
    #: Does the site say whether it is, or does DEBUG?
    is_set: bool
    rules: RuleSet
    visitors: Visitors
    on_error: OnError
    allow: Access
    deny: Access
    login: LoginRules
