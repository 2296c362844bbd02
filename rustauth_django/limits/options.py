"""The limits of a site, as its settings say."""

from dataclasses import dataclass

from .access import Access
from .keys import Visitors
from .rates import OnError, RateLimitRule
from .rules import RuleSet


@dataclass(frozen=True, slots=True)
class LoginRules:
    """How many failed logins an account may have, an address, and an account from one address.

    ``device_age`` is the lifetime of the device cookie in seconds; None means no such cookie.
    """

    account: tuple[RateLimitRule, ...]
    address: tuple[RateLimitRule, ...]
    pair: tuple[RateLimitRule, ...]
    device_age: int | None
    #: Fields of the user model by which people sign in, beside the natural key.
    names: tuple[str, ...]
    #: Does the site say anything about it?
    is_set: bool


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """``RUSTAUTH["RATE_LIMIT"]``, read and checked."""

    enabled: bool
    #: Does a setting of the site's decide, or DEBUG?
    is_set: bool
    rules: RuleSet
    visitors: Visitors
    on_error: OnError
    allow: Access
    deny: Access
    login: LoginRules
