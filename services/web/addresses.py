"""Whose request it is."""

import ipaddress
from collections.abc import Iterable

from starlette.types import Scope


class Addresses:
    """Addresses of clients; what proxies say of them counts only as far as each of these is trusted."""

    def __init__(self, proxies: Iterable[str]) -> None:
        self._proxies = [ipaddress.ip_network(proxy) for proxy in proxies]

    def of(self, scope: Scope) -> str:
        """The client's address."""
        address = (scope.get("client") or ("",))[0]
        named = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for").decode("latin-1")
        for forwarded in reversed([word.strip() for word in named.split(",") if word.strip()]):
            if not self._trusted(address):
                break
            address = forwarded
        return str(address[:64])

    def _trusted(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._proxies)
