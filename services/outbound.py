"""Connections to other hosts: their proxies, trusted certificates, and explanations of failures."""

import os
import ssl
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from websockets.exceptions import ProxyError

from services.core.errors import Misconfigured
from services.core.proxies import Proxies, Proxy
from services.settings import Settings
from services.settings.sources import variable_in_use

# OpenSSL's verification codes that no additional CA would fix.
CLOCK_ERROR_CODES = frozenset({9, 10})  # not yet valid, expired
WRONG_HOST_CODES = frozenset({62, 64})  # another name, another address


def http_client(settings: Settings, **options: Any) -> httpx.AsyncClient:
    """Return a client that uses the configured proxies. Raises Misconfigured."""
    transport = ProxyingTransport(settings.proxies, tls_context(settings))
    return httpx.AsyncClient(transport=transport, trust_env=False, **options)


def websocket_options(settings: Settings, url: str) -> dict[str, Any]:
    """Return the arguments of `websockets.connect` for the same proxies and certificates. Raises Misconfigured."""
    proxy, context = proxy_for(settings, url), tls_context(settings)
    options: dict[str, Any] = {"proxy": proxy.url if proxy else None}
    if url.startswith("wss:"):
        options["ssl"] = context
    if proxy and proxy.scheme == "https":
        options["proxy_ssl"] = context
    return options


def proxy_for(settings: Settings, url: str) -> Proxy | None:
    """Return the proxy for a URL."""
    parts = urlsplit(url)
    return settings.proxies.choose(parts.scheme, parts.hostname or "", parts.port)


def failure_text(error: Exception, proxy: Proxy | None) -> str:
    """Return why a host was not reached, with the setting that would help, for an operator."""
    if refused := _certificate_error(error):
        text = f"its certificate cannot be verified: {refused.verify_message}: {_remedy(refused.verify_code)}"
    else:
        text = f"{type(error).__name__} {error}".strip()
        text = f"{text}: {error.__cause__}" if isinstance(error, ProxyError) and error.__cause__ else text
    return f"{text} (through the proxy {proxy})" if proxy else text


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Return a context that trusts only SSL_CERT_FILE and SSL_CERT_DIR, or without them the certificates of the system
    and of httpx. Raises Misconfigured.
    """
    return _context(settings.ssl_cert_file, settings.ssl_cert_dir)


@cache  # loading the system's certificates takes tens of milliseconds
def _context(file: str, folders: str) -> ssl.SSLContext:
    if not file and not folders:
        context = httpx.create_ssl_context(trust_env=False)
        context.load_default_certs()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if file:
            _load(context, "ssl_cert_file", file)
        for folder in filter(None, folders.split(os.pathsep)):
            _load(context, "ssl_cert_dir", folder)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # CAs of TLS inspection fail it, and only Python requires it
    return context


def _load(context: ssl.SSLContext, setting: str, path: str) -> None:
    try:
        context.load_verify_locations(**{"capath" if Path(path).is_dir() else "cafile": path})
    except OSError as error:
        why = "it contains no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise Misconfigured(f"{variable_in_use(setting, Settings)}: {path}: {why}") from None


class ProxyingTransport(httpx.AsyncBaseTransport):
    """A transport for each proxy, selected for each request, because a redirect may lead to another host."""

    def __init__(self, proxies: Proxies, context: ssl.SSLContext) -> None:
        self._proxies, self._context = proxies, context
        self._transports = dict[Proxy | None, httpx.AsyncBaseTransport]()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx.TransportError."""
        url = request.url
        proxy = self._proxies.choose(url.scheme, url.host, url.port)
        if proxy not in self._transports:
            self._transports[proxy] = self._transport(proxy)
        try:
            return await self._transports[proxy].handle_async_request(request)
        except httpx.TransportError:
            raise
        except Exception as error:  # the SOCKS transport's own errors
            raise httpx.ProxyError(str(error), request=request) from error

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._transports.values():
            await transport.aclose()

    def _transport(self, proxy: Proxy | None) -> httpx.AsyncBaseTransport:
        if proxy is None or not proxy.scheme.startswith("socks"):
            ssl_context = self._context if proxy and proxy.scheme == "https" else None
            through = httpx.Proxy(proxy.url, ssl_context=ssl_context) if proxy else None
            return httpx.AsyncHTTPTransport(verify=self._context, proxy=through)
        from httpx_socks import AsyncProxyTransport  # noqa: PLC0415  only for SOCKS proxies
        from python_socks import ProxyType  # noqa: PLC0415

        return AsyncProxyTransport(
            proxy_type=ProxyType[proxy.scheme[:6].upper()],
            proxy_host=proxy.host,
            proxy_port=proxy.port,
            username=proxy.user or None,
            password=proxy.password or None,
            rdns=proxy.scheme in ("socks4a", "socks5h"),
            verify=self._context,
        )


def _certificate_error(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    while error:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _remedy(code: int) -> str:
    if code in CLOCK_ERROR_CODES:
        return "check this machine's clock"
    if code in WRONG_HOST_CODES:
        return "another server responds in its place"
    return "where TLS is inspected, name the file with the inspector's CA in SSL_CERT_FILE"
