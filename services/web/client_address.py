"""Whose request it is."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from starlette.types import Scope

IPV6_PREFIX_BITS = 64  # leading bits of an IPv6 address: what one customer is given, all of its addresses


class ClientAddresses:
    """Addresses of clients; what proxies say of them counts only as far as each of these is trusted."""

    def __init__(self, proxies: Iterable[str]) -> None:
        self._proxies = [ipaddress.ip_network(proxy) for proxy in proxies]

    def client_of(self, scope: Scope) -> str:
        """The client: its IPv4 address, or the network of its IPv6 address."""
        address = (scope.get("client") or ("",))[0]
        named = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for").decode("latin-1")
        for forwarded in reversed([word.strip() for word in named.split(",") if word.strip()]):
            if not self._trusted(address):
                break
            address = forwarded
        return client_network(str(address[:64]))

    def _trusted(self, address: str) -> bool:
        parsed = _parse_address(address[:64])
        return parsed is not None and any(parsed in network for network in self._proxies)


@lru_cache(16_384)
def client_network(address: str) -> str:
    """The IPv4 address, or the network of an IPv6 address."""
    parsed = _parse_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed.packed, IPV6_PREFIX_BITS), strict=False))
    return address if parsed is None else str(parsed)


def is_loopback(address: str) -> bool:
    """Whether it is this machine's own."""
    parsed = _parse_address(address)
    return parsed is not None and parsed.is_loopback


def _parse_address(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An IPv4 address that is written as one of IPv6, as sockets for both do, is one of IPv4."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed
