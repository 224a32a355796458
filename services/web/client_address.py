"""The address of a client, behind trusted proxies too."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from starlette.types import Scope

IPV6_PREFIX_BITS = 64  # providers give each customer a network of this size


class ClientAddresses:
    """Addresses of clients. `X-Forwarded-For` counts only where each proxy on the way is trusted."""

    def __init__(self, proxies: Iterable[str]) -> None:
        self._proxies = [ipaddress.ip_network(proxy) for proxy in proxies]

    def client_of(self, scope: Scope) -> str:
        """Return the client's IPv4 address, or the network of its IPv6 address."""
        address = (scope.get("client") or ("",))[0]
        header = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for").decode("latin-1")
        for forwarded in reversed([part.strip() for part in header.split(",") if part.strip()]):
            if not self._trusted(address):
                break
            address = forwarded
        return client_network(str(address[:64]))

    def _trusted(self, address: str) -> bool:
        parsed = _parse_address(address[:64])
        return parsed is not None and any(parsed in network for network in self._proxies)


@lru_cache(16_384)
def client_network(address: str) -> str:
    """Return an IPv4 address as it is, and of an IPv6 address its network."""
    parsed = _parse_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed.packed, IPV6_PREFIX_BITS), strict=False))
    return address if parsed is None else str(parsed)


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own."""
    parsed = _parse_address(address)
    return parsed is not None and parsed.is_loopback


def _parse_address(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse an address. Sockets of both families write IPv4 addresses in IPv6 form: those are IPv4."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed
