"""The lists of clients that are never limited (``ALLOW``) and always refused (``DENY``)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

from ..engine.plans import Call, Plan
from .clients import Address, Network


@dataclass(frozen=True, slots=True)
class Access:
    """Networks, or a function of the request that says yes or no."""

    networks: tuple[Network, ...] = ()
    function: Callable[[HttpRequest], Any] | None = None

    def __bool__(self) -> bool:
        return bool(self.networks or self.function)

    def includes(self, request: HttpRequest, address: Address | None) -> Plan[Call, bool]:
        """Is this request's client one of them?"""
        if self.function is not None:
            return bool((yield Call(self.function, (request,))))
        return address is not None and any(address in network for network in self.networks)
