"""Settings of the API's clients and their limits."""

import re
from ipaddress import ip_network
from urllib.parse import SplitResult

from pydantic import BaseModel, Field, field_validator

from services.core.journal import JOURNAL_BYTES
from services.settings.parsing import CommaList, parse_url, unprefixed

HOST_PATTERN = re.compile(r"\*|(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


class ClientSettings(BaseModel):
    """The API's clients: their origins, addresses and limits."""

    websocket_max_connections: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        validation_alias=unprefixed("WEBSOCKET_MAX_CONNECTIONS"),
        description="Live connections, WebSocket and SSE, per replica",
    )
    stream_address_connections: int = Field(
        100, ge=1, le=1_000_000, description="Live connections per client address and replica"
    )
    journal_bytes: int = Field(
        JOURNAL_BYTES,
        ge=1_000_000,
        le=1_000_000_000_000,
        description="Bytes of the journal, from which live streams are resumed; Redis needs half as much in addition",
    )
    cors_allowed_origins: CommaList = Field(
        ("http://localhost:5173", "http://localhost:4173"),
        validation_alias=unprefixed("CORS_ALLOWED_ORIGINS"),
        description="Origins of web pages that may read the API from a browser; null: pages without one; a comma list",
    )
    allowed_hosts: CommaList = Field(
        (),
        description="Host names under which Kurs may be requested, beside localhost and IP addresses: "
        "kurs.example, *.kurs.example, or * for any; a comma list. Empty: any, but none where "
        "KURS_HOST is the loopback",
    )
    trusted_proxies: CommaList = Field(
        (), description="Proxies whose X-Forwarded-For is trusted: addresses or networks, a comma list"
    )

    @field_validator("cors_allowed_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = parse_url(origin)
            if origin in ("*", "null"):
                continue
            if not parts.hostname or origin != f"{parts.scheme}://{parts.netloc}":
                raise ValueError(
                    f"{origin!r} is not an origin: write https://page.example, without a path or / at the end"
                )
            if "*" in origin:
                raise ValueError(f"{origin!r} matches no page: name each origin, or write * for all")
            if origin != (sent := _browser_origin(parts)):
                raise ValueError(f"{origin!r} differs from what browsers send: write {sent}")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not HOST_PATTERN.fullmatch(host):
                raise ValueError(f"{host!r} is not a host name: write kurs.example, without scheme, port and path")
        return tuple(host.lower() for host in value)

    @field_validator("trusted_proxies")
    @classmethod
    def _check_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in value:
            ip_network(proxy)
        return value


def _browser_origin(parts: SplitResult) -> str:
    """Return an origin as browsers send it: in lower case, without the scheme's default port, the host in ASCII."""
    host = (
        (parts.hostname or "").encode("idna").decode() if ":" not in (parts.hostname or "") else f"[{parts.hostname}]"
    )
    port = "" if parts.port in (None, {"http": 80, "https": 443}.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"
