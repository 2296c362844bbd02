"""Whom no limit touches, and who is not let in."""

from typing import Any

import pytest
from django.http import HttpRequest

from .site import Site


def is_insider(request: HttpRequest) -> bool:
    return request.headers.get("insider") == "yes"


async def ais_insider(request: HttpRequest) -> bool:
    return is_insider(request)


def refuse_all(request: HttpRequest) -> bool:
    raise RuntimeError("as functions do")


def test_networks_of_both_kinds(memory_site: Site) -> None:
    """As they are written, whatever part of an address counts."""
    site = memory_site
    lists = {"ALLOW": ["10.0.0.0/8", "2001:db8::7"], "DENY": ["192.0.2.0/24", "2001:db8:1::/48"]}
    site.configure(ENABLED=True, MAX=1, **lists)
    for peer in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7"):
        assert site.statuses("GET", "/items/", 3, peer=peer) == [200] * 3
    for peer in ("192.0.2.77", "2001:db8:1:2::3"):
        refused = site.get("/items/", peer=peer)
        assert refused.status_code == 403
        assert refused.json()["code"] == "FORBIDDEN"
    for peer in ("11.0.0.1", "2001:db8::8"):
        assert site.statuses("GET", "/items/", 2, peer=peer) == [200, 429]
    page = site.get("/items/", peer="192.0.2.77", accept="text/html")
    assert b"Requests from here are not accepted." in page.content


@pytest.mark.parametrize("function", [is_insider, "tests.test_access.ais_insider"])
def test_functions_of_both_kinds(memory_site: Site, function: Any) -> None:
    """Of the request."""
    memory_site.configure(ENABLED=True, MAX=1, ALLOW=function)
    assert memory_site.statuses("GET", "/items/", 3, insider="yes") == [200] * 3
    assert memory_site.statuses("GET", "/items/", 2) == [200, 429]
    memory_site.configure(ENABLED=True, DENY=function)
    assert memory_site.get("/items/", insider="yes").status_code == 403
    assert memory_site.get("/items/").status_code == 200


def test_denying_goes_first(memory_site: Site) -> None:
    """Whoever is on both lists stays outside."""
    memory_site.configure(ENABLED=True, ALLOW=["127.0.0.0/8"], DENY=["127.0.0.1"])
    assert memory_site.get("/items/").status_code == 403
    assert memory_site.get("/items/", peer="127.0.0.2").status_code == 200


def test_the_client_is_the_one_that_limits_believe(memory_site: Site) -> None:
    """A header that nobody trusts opens no door."""
    memory_site.configure(ENABLED=True, MAX=1, ALLOW=["10.0.0.1"])
    forged = {"x_forwarded_for": "10.0.0.1", "x_real_ip": "10.0.0.1"}
    assert memory_site.statuses("GET", "/items/", 2, **forged) == [200, 429]
    memory_site.configure(ENABLED=True, MAX=1, ALLOW=["10.0.0.1"], IP_HEADERS=["X-Real-IP"])
    assert memory_site.statuses("GET", "/items/", 3, x_real_ip="10.0.0.1") == [200] * 3


def test_a_function_that_fails_lets_nobody_through(memory_site: Site) -> None:
    """An error is an error."""
    memory_site.configure(ENABLED=True, DENY=refuse_all)
    assert memory_site.get("/items/").status_code == 500


def test_views_that_are_exempt_are_closed_to_the_denied_too(memory_site: Site) -> None:
    """The list is of clients, not of limits; and off with the limiter."""
    memory_site.configure(ENABLED=True, DENY=["127.0.0.1"])
    assert memory_site.get("/exempt/").status_code == 403
    memory_site.configure(ENABLED=False, DENY=["127.0.0.1"])
    assert memory_site.get("/exempt/").status_code == 200
