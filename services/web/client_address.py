"""The address of a client, behind trusted proxies too."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from starlette.types import Scope

IPV6_PREFIX_BITS = 64  # providers give each customer a network of this size
MAX_PROXIES = 10  # on the way, so that a long header takes no time
MAX_ADDRESS_LENGTH = 64


class ClientAddresses:
    """Addresses of clients. `X-Forwarded-For` counts only where each proxy on the way is trusted.

    `Forwarded`, `X-Real-IP` and the like never count: a proxy that sets one header may pass the others on as they come.
    """

    def __init__(self, proxies: Iterable[str]) -> None:
        self._proxies = [ipaddress.ip_network(proxy) for proxy in proxies]

    def client_of(self, scope: Scope) -> str:
        """Return the client's IPv4 address, or the network of its IPv6 address.

        It is the last address that a trusted proxy named. What is no address is not believed: the proxy that named it
        counts as the client then.
        """
        address = str((scope.get("client") or ("",))[0][:MAX_ADDRESS_LENGTH])
        if self._trusted(address):
            header = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
            for part in reversed(header.rsplit(b",", MAX_PROXIES)[-MAX_PROXIES:]):
                forwarded = _forwarded_address(part) if part.strip() else address
                if forwarded is None:
                    break
                address = forwarded
                if not self._trusted(address):
                    break
        return client_network(address)

    def _trusted(self, address: str) -> bool:
        if not self._proxies:
            return False
        parsed = _parse_address(address)
        return parsed is not None and any(parsed in network for network in self._proxies)


def _forwarded_address(part: bytes) -> str | None:
    """Return the address in a part of X-Forwarded-For, without the port that some proxies add."""
    text = part[: 2 * MAX_ADDRESS_LENGTH].decode("latin-1").strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return text if _parse_address(text) else None


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
