"""Client addresses: contract IP."""

from ipaddress import ip_network
from typing import Any

import pytest

from rustauth_django.limits.clients import ClientAddresses, normalize_ip, parse_address

XFF = "HTTP_X_FORWARDED_FOR"


def resolve(
    meta: dict[str, str], *proxies: str, headers: tuple[str, ...] = (XFF,), **kwargs: Any
) -> Any:
    networks = tuple(ip_network(proxy) for proxy in proxies)
    meta = {"REMOTE_ADDR": "127.0.0.1", **meta}
    return ClientAddresses(headers, networks, **kwargs).resolve(meta)


def test_the_peer_is_the_client_by_default() -> None:
    """IP-03, IP-04: forwarded headers are ignored until they are configured."""
    meta = {"REMOTE_ADDR": "192.0.2.1", XFF: "6.6.6.6"}
    assert resolve(meta, headers=()) == "192.0.2.1"


@pytest.mark.parametrize("peer", ["", "unix:", "192.0.2.1:80", "fe80::1%eth0", "example.org"])
def test_a_peer_without_an_address_is_nobody(peer: str) -> None:
    """IP-08, PORT-07: sockets, ports, scope ids and names are no addresses."""
    assert resolve({"REMOTE_ADDR": peer}, headers=()) is None
    assert ClientAddresses().resolve({}) is None


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("1.2.3.4", "1.2.3.4"),
        (" 1.2.3.4 ", "1.2.3.4"),
        ("1.2.3.4,", "1.2.3.4"),
        (",1.2.3.4", "1.2.3.4"),
        ("1.2.3.4, 5.6.7.8", None),
        ("1.2.3.4,1.2.3.4", None),
        ("", None),
        (",", None),
        ("not-an-ip", None),
        ("1.2.3.4:80", "1.2.3.4"),
    ],
)
def test_without_trusted_proxies_a_header_holds_one_address(value: str, client: str | None) -> None:
    """IP-10, PORT-08: repeated headers arrive joined by commas and count as several."""
    assert resolve({XFF: value}) == client


@pytest.mark.parametrize(
    ("value", "proxies", "client"),
    [
        ("1.2.3.4, 198.51.100.10, 10.0.0.5", ["10.0.0.0/8"], "198.51.100.10"),
        ("10.0.0.9, 10.0.0.5", ["10.0.0.0/8"], None),
        ("198.51.100.10, not-an-ip", ["10.0.0.0/8"], None),
        ("198.51.100.10, 192.0.2.1", ["192.0.2.1"], "198.51.100.10"),
        ("2001:db8::1, fc00::1", ["fc00::/7"], "2001:0db8:0000:0000:0000:0000:0000:0000"),
        ("bad, 9.9.9.9, 10.0.0.5", ["10.0.0.0/8"], "9.9.9.9"),
        ("9.9.9.9, ::ffff:10.0.0.5", ["10.0.0.0/8"], "9.9.9.9"),
        ("203.0.113.9:1234, 10.0.0.5:80", ["10.0.0.0/8"], "203.0.113.9"),
        ("203.0.113.9:1234", [], "203.0.113.9"),
        ("[2001:db8::1]:443, [fc00::1]", ["fc00::/7"], "2001:0db8:0000:0000:0000:0000:0000:0000"),
        ("[::ffff:203.0.113.9]:1", [], "203.0.113.9"),
        ("203.0.113.9:", [], None),
        ("[203.0.113.9]:1234", [], None),
        ("[2001:db8::1]443", [], None),
        ("2001:db8::1:443x", [], None),
        ("[fe80::1%eth0]:80", [], None),
        ("9.9.9.9, 10.0.0.5", ["::/0"], "10.0.0.5"),
        ("9.9.9.9", ["10.0.0.0/8"], "9.9.9.9"),
        ("", ["10.0.0.0/8"], None),
    ],
)
def test_trusted_proxies_are_walked_from_the_right(
    value: str, proxies: list[str], client: str | None
) -> None:
    """IP-11, QUIRK-31: to the first hop that is not ours; junk before it is never looked at."""
    assert resolve({XFF: value}, *proxies) == client


def test_a_header_without_an_answer_moves_to_the_next() -> None:
    """IP-13: in the order of IP_HEADERS."""
    headers = ("HTTP_X_REAL_IP", XFF)
    assert resolve({"HTTP_X_REAL_IP": "junk", XFF: "1.2.3.4"}, headers=headers) == "1.2.3.4"
    assert resolve({"HTTP_X_REAL_IP": "5.6.7.8", XFF: "1.2.3.4"}, headers=headers) == "5.6.7.8"
    assert resolve({}, headers=headers) is None


def test_a_stranger_who_comes_past_the_proxies_speaks_for_itself() -> None:
    """A public peer that is no proxy of ours cannot choose its address by header."""
    forged = {"REMOTE_ADDR": "8.8.8.8", XFF: "1.2.3.4"}
    assert resolve(forged, "10.0.0.0/8") == "8.8.8.8"
    through_proxy = {"REMOTE_ADDR": "8.8.8.8", XFF: "1.2.3.4"}
    assert resolve(through_proxy, "8.8.8.0/24") == "1.2.3.4"


@pytest.mark.parametrize(
    "text",
    [
        "192.0.2.01",
        "1.2.3",
        "1.2.3.4:80",
        "[::1]",
        "fe80::1%eth0",
        " 1.2.3.4",
        "localhost",
        "",
        "1",
    ],
)
def test_what_is_no_literal_address(text: str) -> None:
    """IP-08: neither project takes these."""
    assert parse_address(text) is None


@pytest.mark.parametrize(
    ("text", "subnet", "normal"),
    [
        ("192.0.2.1", 64, "192.0.2.1"),
        ("::ffff:192.0.2.1", 64, "192.0.2.1"),
        ("::ffff:c000:0201", 64, "192.0.2.1"),
        ("::FFFF:c000:0201", 64, "192.0.2.1"),
        ("0:0:0:0:0:ffff:192.0.2.1", 64, "192.0.2.1"),
        ("2001:DB8::1", 64, "2001:0db8:0000:0000:0000:0000:0000:0000"),
        ("2001:DB8::1", 128, "2001:0db8:0000:0000:0000:0000:0000:0001"),
        ("2001:db8:abcd:1234::1", 48, "2001:0db8:abcd:0000:0000:0000:0000:0000"),
        ("2001:db8:abcd:1234::1", 32, "2001:0db8:0000:0000:0000:0000:0000:0000"),
        ("2001:db8:abcd:ef12::1", 56, "2001:0db8:abcd:ef00:0000:0000:0000:0000"),
        ("2001:db8:abcd:ef12::1", 40, "2001:0db8:ab00:0000:0000:0000:0000:0000"),
        ("2001:db8::1", 0, "0000:0000:0000:0000:0000:0000:0000:0000"),
        ("::1", 64, "0000:0000:0000:0000:0000:0000:0000:0000"),
        ("fe80::1", 64, "fe80:0000:0000:0000:0000:0000:0000:0000"),
        ("::ffff:0:192.0.2.1", 64, "0000:0000:0000:0000:0000:0000:0000:0000"),
        ("::192.0.2.1", 128, "0000:0000:0000:0000:0000:0000:c000:0201"),
        ("64:ff9b::192.0.2.1", 64, "0064:ff9b:0000:0000:0000:0000:0000:0000"),
        ("Not-An-IP", 64, "not-an-ip"),
    ],
)
def test_normal_forms(text: str, subnet: int, normal: str) -> None:
    """IP-14 to IP-18, IP-21: RustAuth's form where the references differ."""
    assert normalize_ip(text, subnet) == normal


def test_spellings_of_one_client_are_one() -> None:
    """IP-20: no bypass by spelling or by another address of the same /64."""
    spellings = ["2001:db8::1", "2001:0DB8:0:0::1", "2001:db8::0.0.0.1", "2001:db8::ffff:1"]
    assert len({normalize_ip(text) for text in spellings}) == 1
    assert normalize_ip("2001:db8:0:1::1") != normalize_ip("2001:db8::1")
    assert resolve({"REMOTE_ADDR": "2001:db8::1"}, headers=(), ipv6_subnet=128).endswith(":0001")
