"""Which proxy a connection uses, if any: one decision for HTTP and WebSocket."""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

DEFAULT_PROXY_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}
DEFAULT_TARGET_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
SUPPORTED_SCHEMES = ", ".join(f"{scheme}://" for scheme in DEFAULT_PROXY_PORTS)
SCHEME_ALIASES = {"socks": "socks5"}  # as desktop settings name it

Address = IPv4Address | IPv6Address


@dataclass(frozen=True)
class Proxy:
    """The address of a proxy. Neither its text nor its repr shows the password."""

    scheme: str
    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{_bracket_ipv6(self.host)}:{self.port}"

    @property
    def url(self) -> str:
        """The URL with the password, for the libraries that connect."""
        user = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@" if self.user or self.password else ""
        return f"{self.scheme}://{user}{_bracket_ipv6(self.host)}:{self.port}"


class ProxyExemption(NamedTuple):
    """One entry of NO_PROXY: an address, a network or a name, perhaps with a port."""

    network: IPv4Network | IPv6Network | None
    name: str
    port: int | None

    def matches(self, host: str, address: Address | None, port: int) -> bool:
        """Whether it exempts this host. A name also exempts its subdomains."""
        if self.port not in (None, port):
            return False
        if address:
            return address in self.network if self.network else fnmatchcase(str(address), self.name)
        return bool(self.name) and (host.endswith(f".{self.name}") or fnmatchcase(host, self.name))


class Proxies(NamedTuple):
    """The proxies of the environment."""

    http: Proxy | None = None  # for http:// and ws://
    https: Proxy | None = None  # for https:// and wss://
    exempt: tuple[ProxyExemption, ...] = ()

    def choose(self, scheme: str, host: str, port: int | None) -> Proxy | None:
        """Return the proxy for a host. None: connect directly, as always to this machine and to names without a dot."""
        proxy = self.https if scheme in ("https", "wss") else self.http
        host, port = _normalize_host(host), port or DEFAULT_TARGET_PORTS.get(scheme, 0)
        address = _parse_address(host)
        if proxy is None or _is_local(host, address) or any(each.matches(host, address, port) for each in self.exempt):
            return None
        return proxy


PROXY_EXAMPLE = (
    "http://user:password@proxy.example:3128, with special characters of a password as %2F for / and %23 for #"
)


def parse_proxy(text: str) -> Proxy | None:
    """Parse a proxy as environments write it; None for an empty text. Raises ValueError without the text."""
    if not (text := text.strip()):
        return None
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError:
        raise ValueError(f"this is no URL: write {PROXY_EXAMPLE}") from None
    scheme = SCHEME_ALIASES.get(parts.scheme, parts.scheme)
    if scheme not in DEFAULT_PROXY_PORTS:
        raise ValueError(f"a proxy's URL must start with one of {SUPPORTED_SCHEMES}")
    if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"this is no proxy's URL: write {PROXY_EXAMPLE}")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return Proxy(scheme, _normalize_host(parts.hostname), port or DEFAULT_PROXY_PORTS[scheme], user, password)


def parse_exemptions(text: str) -> tuple[ProxyExemption, ...]:
    """Parse NO_PROXY, with commas or spaces. Unknown forms are ignored, because other programs read it too."""
    return tuple(filter(None, map(_parse_exemption, text.replace(",", " ").split())))


def _parse_exemption(entry: str) -> ProxyExemption | None:
    name, port = _split_port(entry.rpartition("://")[2].rstrip("/"))
    try:
        return ProxyExemption(ip_network(name.replace("[", "").replace("]", ""), strict=False), "", port)
    except ValueError:
        name = _normalize_host(name).removeprefix("*.").lstrip(".")
    return ProxyExemption(None, name, port) if name else None


def _split_port(entry: str) -> tuple[str, int | None]:
    """Split a port off. A colon in an IPv6 address without brackets does not begin a port."""
    name, _, port = entry.rpartition(":")
    if port.isascii() and port.isdigit() and (":" not in name or name.endswith("]")):
        return name, int(port[:6])
    return entry, None


def _is_local(host: str, address: Address | None) -> bool:
    if address:
        return address.is_loopback or address.is_unspecified
    return "." not in host or host.endswith(".localhost")


def _parse_address(host: str) -> Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _normalize_host(host: str) -> str:
    """Return a host as DNS has it: lower-case, ASCII, without a dot at the end."""
    host = host.strip("[]").rstrip(".").lower()
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return host


def _bracket_ipv6(host: str) -> str:
    return f"[{host}]" if ":" in host else host
