"""A module with a rule, which uses the stores of the settings that name it."""

from django.http import HttpRequest

from rustauth_django import InvalidConfig, RateLimitRule, rate_limit_store


def rule(request: HttpRequest, current: RateLimitRule) -> RateLimitRule:
    return current


try:
    KEYSPACE = rate_limit_store.keyspaces
except InvalidConfig:
    KEYSPACE = None
