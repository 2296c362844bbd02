"""Headers: what the IETF's draft wants, whatever the rule."""

from dataclasses import replace

import pytest

from rustauth_django import RateLimitDecision, RateLimitRule
from rustauth_django.limits.headers import limit_headers


def test_a_permitted_request_tells_what_is_left() -> None:
    """MW-19, QUIRK-33: on every response, with no Retry-After."""
    decision = RateLimitDecision(True, 0, 100, 97, 10)
    assert limit_headers("default", replace(decision, rule=RateLimitRule(10, 100))) == {
        "RateLimit-Policy": '"default";q=100;w=10',
        "RateLimit": '"default";r=97;t=10',
    }


def test_a_refusal_tells_when_to_come_back() -> None:
    """Retry-After is never earlier than the effective window ends; both names are sent."""
    decision = RateLimitDecision(False, 7, 3, 0, 7)
    assert limit_headers("sign-in", replace(decision, rule=RateLimitRule(10, 3))) == {
        "RateLimit-Policy": '"sign-in";q=3;w=10',
        "RateLimit": '"sign-in";r=0;t=7',
        "Retry-After": "7",
        "X-Retry-After": "7",
    }


def test_windows_are_whole_seconds() -> None:
    """Never zero of them."""
    decision = RateLimitDecision(True, 0, 3, 2, 1)
    assert (
        limit_headers("x", replace(decision, rule=RateLimitRule(0.2, 3)))["RateLimit-Policy"]
        == '"x";q=3;w=1'
    )


def test_integers_fit_a_structured_field() -> None:
    """RFC 9651 ends at fifteen digits."""
    decision = RateLimitDecision(True, 0, 2**63 - 1, 2**63 - 2, 10**16)
    assert limit_headers("x", replace(decision, rule=RateLimitRule(10**15, 2**63 - 1))) == {
        "RateLimit-Policy": '"x";q=999999999999999;w=999999999999999',
        "RateLimit": '"x";r=999999999999999;t=999999999999999',
    }


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("path:/sign-in/*", '"path:/sign-in/*"'),
        ('a"b', '"a\\"b"'),
        ("a\\b", '"a\\\\b"'),
        ("a\r\nb", '"ab"'),
        ("grüße", '"gr\\\\xfc\\\\xdfe"'),
    ],
)
def test_names_are_printable_ascii(name: str, quoted: str) -> None:
    """Whatever a rule is called, no header is injected."""
    headers = limit_headers(name, RateLimitDecision(True, 0, 3, 2, 10, RateLimitRule(10, 3)))
    assert headers["RateLimit"] == f"{quoted};r=2;t=10"
