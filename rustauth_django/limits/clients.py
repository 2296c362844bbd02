"""The client's address: from a request's headers to one normalised address.

A client can send forwarded headers itself, so none is read unless the site configures it (IP-03). A
list of hops is read from the right, where the site's proxies write, to the first address that is
not one of them (IP-11, QUIRK-31).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Any, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
# An address with the port of the connection that it was seen on: 192.0.2.1:80, [2001:db8::1]:443.
WITH_PORT = re.compile(r"(?P<v4>[0-9.]+):[0-9]{1,5}|\[(?P<v6>[0-9A-Fa-f:.]+)\](:[0-9]{1,5})?")


# A client sends many requests, and its address is the same text in each.
@lru_cache(maxsize=4096)
def parse_address(text: str) -> Address | None:
    """A literal address, with IPv4-mapped ones unwrapped (IP-15).

    None for anything else: ports, brackets, blanks, leading zeros, names (IP-08), and
    scope ids, which mean nothing beyond their own host (PORT-07).
    """
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return None
        return address.ipv4_mapped or address
    return address


def parse_hop(text: str) -> Address | None:
    """An address in a header; Azure and others add its port, and brackets around IPv6."""
    found = WITH_PORT.fullmatch(text)
    if found is None:
        return parse_address(text)
    # Brackets around an IPv4 address without a port are an error.
    return parse_address(found["v4"] or (found["v6"] if ":" in found["v6"] else ""))


@lru_cache(maxsize=4096)
def normalize_address(address: Address, ipv6_subnet: int = 64) -> str:
    """The form of an address in keys: dotted IPv4, or the IPv6 subnet in full (IP-14 to IP-17)."""
    if isinstance(address, IPv4Address):
        return str(address)
    host_bits = 128 - ipv6_subnet
    digits = f"{int(address) >> host_bits << host_bits:032x}"
    return ":".join([digits[at : at + 4] for at in range(0, 32, 4)])


def normalize_ip(text: str, ipv6_subnet: int = 64) -> str:
    """``normalize_address`` of a literal; other text in lower case (IP-18)."""
    address = parse_address(text)
    return text.lower() if address is None else normalize_address(address, ipv6_subnet)


@dataclass(frozen=True, slots=True)
class ClientAddresses:
    """The site's rules for finding a request's address.

    ``headers`` are names as in ``request.META`` ("HTTP_X_FORWARDED_FOR"), tried in order; without
    any, the peer of the connection is the client.
    """

    headers: tuple[str, ...] = ()
    trusted_proxies: tuple[Network, ...] = ()
    ipv6_subnet: int = 64

    def find(self, meta: Mapping[str, Any]) -> Address | None:
        """The client's address, or None if there is none that can be trusted."""
        peer = parse_address(meta.get("REMOTE_ADDR") or "")
        if not self.headers or self._speaks_for_itself(peer):
            return peer
        candidates = (self._from_header(meta.get(name, "")) for name in self.headers)
        return next((address for address in candidates if address is not None), None)

    def resolve(self, meta: Mapping[str, Any]) -> str | None:
        """The client's normalised address, or None if there is none that can be trusted."""
        found = self.find(meta)
        return None if found is None else normalize_address(found, self.ipv6_subnet)

    def _speaks_for_itself(self, peer: Address | None) -> bool:
        # A peer on the public internet that is not one of the site's proxies has bypassed them, and
        # may have made its headers up. Private peers may be containers, sockets and load balancers
        # that nobody listed.
        return bool(self.trusted_proxies and peer and peer.is_global and not self._is_trusted(peer))

    def _from_header(self, value: str) -> Address | None:
        hops = [hop for part in value.split(",") if (hop := part.strip())]
        if not self.trusted_proxies:
            return parse_hop(hops[0]) if len(hops) == 1 else None  # IP-10
        for hop in reversed(hops):
            address = parse_hop(hop)
            if address is None or not self._is_trusted(address):
                return address
        return None

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self.trusted_proxies)
