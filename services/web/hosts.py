"""The host names that a process serves."""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.types import Scope

from services.core.errors import BadRequest, Misdirected

ANY_HOST = "*"
HOST_PATTERN = re.compile(rb"(?:\[([0-9a-f:.]+)\]|([a-z0-9._~!$&'()*+,;=%-]+))(?::([0-9]{0,5}))?", re.IGNORECASE)
MAX_PORT = 65_535
MAX_ADMITTED_HOSTS = 1024


class AllowedHosts:
    """The names of this process. IP addresses and localhost are always served: no other site can have them.

    The owner of any other name can point it at this machine after a browser has loaded a page under it (DNS rebinding).
    The browser then takes Kurs for that page's own server, and lets the page read everything.
    """

    def __init__(self, allowed: Collection[str], bound: str) -> None:
        names = {*allowed, bound.lower()}
        self._names = {name for name in names if not name.startswith(ANY_HOST)}
        self._suffixes = tuple(name.removeprefix(ANY_HOST) for name in names if name.startswith(ANY_HOST))
        self._allows_all = not allowed and not _is_local(bound.lower())
        self._admitted: set[bytes] = set()  # Host headers that were accepted: most clients send the same one every time

    def is_own_name(self, host: str) -> bool:
        """Whether a Host header names this process, whatever the settings allow."""
        name = _parse_host(host.encode("latin-1", "replace"))
        return name is not None and (name in self._names or name.endswith(self._suffixes) or _cannot_be_rebound(name))

    def allows_origin(self, headers: Mapping[bytes, bytes], origins: Collection[str] = ()) -> bool:
        """Whether a page may connect: one that this process served, or one of `origins`, where `*` is any.

        A client that sends no Origin is no page.
        """
        origin, host = (headers.get(name, b"").strip(b" \t").decode("latin-1").lower() for name in (b"origin", b"host"))
        if not origin or origin in origins or ANY_HOST in origins:
            return True
        return origin in (f"http://{host}", f"https://{host}") and self.is_own_name(host)

    def check(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """Raises BadRequest for a request without one valid Host, Misdirected for a name that is not served."""
        host = headers.get(b"host")
        if host in self._admitted and len(headers) == len(scope["headers"]):
            return
        if host is None:
            if scope.get("http_version") == "1.0":
                return
            raise BadRequest("a request of HTTP/1.1 needs the header Host")
        if len(headers) != len(scope["headers"]) and sum(name == b"host" for name, _ in scope["headers"]) > 1:
            raise BadRequest("a request has one header Host")
        name = _parse_host(host)
        if name is None:
            raise BadRequest("the header Host is not a host name with an optional port")
        if not (self._allows_all or self.is_own_name(host.decode())):
            raise Misdirected(f"{name[:100]} is not a name of this server: list it in KURS_ALLOWED_HOSTS")
        if len(self._admitted) == MAX_ADMITTED_HOSTS:
            self._admitted.clear()
        self._admitted.add(host)


@lru_cache(1024)
def _parse_host(host: bytes) -> str | None:
    """Return a Host header without its port, in lower case; None if it is not valid."""
    found = HOST_PATTERN.fullmatch(host.strip(b" \t"))  # RFC 9110, 5.5: white space around a value is no part of it
    if not found or int(found[3] or 0) > MAX_PORT:
        return None
    name = (found[1] or found[2]).decode().lower().removesuffix(".")
    return name if all(name.split(".")) else None


@lru_cache(1024)
def _cannot_be_rebound(name: str) -> bool:
    """Whether no owner of a domain can point the name elsewhere."""
    return name == "localhost" or name.endswith(".localhost") or _parse_ip(name) is not None


def _is_local(bound: str) -> bool:
    address = _parse_ip(bound)
    return address.is_loopback if address else bound == "localhost"


def _parse_ip(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None
