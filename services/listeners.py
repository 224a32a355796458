"""The ports that a process listens on."""

import logging
import socket
from ssl import SSLContext

from services.core.errors import Misconfigured
from services.settings import Settings
from services.web import certificates

DEFAULT_PORT = 8000
logger = logging.getLogger(__name__)


def bind(settings: Settings) -> socket.socket:
    """Bind the configured port, otherwise 8000, or any free port if that is in use.

    The socket does not listen yet: a replica that is not ready must refuse connections, so that nginx tries another
    one at once.
    """
    if settings.port is not None:
        return _bind_socket(settings.host, settings.port, "KURS_PORT")
    try:
        return _bind_socket(settings.host, DEFAULT_PORT, "KURS_PORT")
    except Misconfigured:
        return _bind_socket(settings.host, 0, "KURS_PORT")


def _bind_socket(host: str, port: int, setting: str) -> socket.socket:
    """Bind a port. Raises Misconfigured."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Misconfigured(f"KURS_HOST, {setting}: {host}:{port}: {error.strerror}") from None
    return listener


def _url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def tls_listener(settings: Settings) -> dict[socket.socket, SSLContext]:
    """Bind the simulator's port for clients that require TLS, if configured. Raises Misconfigured."""
    if settings.simulator_tls_port is None:
        return {}
    chain = settings.simulator_tls_cert
    shown = chain or certificates.self_signed(settings.data_dir, certificates.local_hosts(settings.host))
    context = certificates.server_context(shown, settings.simulator_tls_key)
    listener = _bind_socket(settings.host, settings.simulator_tls_port, "KURS_SIMULATOR_TLS_PORT")
    host, port = listener.getsockname()[:2]
    trusted = chain or settings.data_dir / certificates.CERT_FILE
    logger.info("simulator: TLS on wss://%s:%d/simulator; clients must trust %s", _url_host(host), port, trusted)
    return {listener: context}
