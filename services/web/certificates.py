"""Certificates of TLS listeners: the operator's, or a self-signed one for this machine."""

import ipaddress
import os
import socket
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from services.core.errors import Misconfigured

KEY_AND_CERT_FILE = "simulator-tls.pem"
CERT_FILE = "simulator-cert.pem"  # for clients to trust
CERT_LIFETIME = timedelta(days=397)  # browsers reject certificates that are valid for longer
RENEW_BEFORE_EXPIRY = timedelta(days=30)


def server_context(chain: Path, key: Path | None) -> ssl.SSLContext:
    """Return a server's context. `key`: the file of the key, where it is not in the chain's. Raises Misconfigured."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(chain, key, password=_refuse_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        files = " and ".join(str(each) for each in (chain, key) if each)
        raise Misconfigured(
            f"KURS_SIMULATOR_TLS_CERT, KURS_SIMULATOR_TLS_KEY: {files} must be a certificate in PEM and its key, "
            f"without a password ({error})"
        ) from None
    return context


def self_signed(folder: Path, hosts: Iterable[str]) -> Path:
    """Return a file with a key and a certificate for these hosts, an existing one while it is usable.

    The certificate alone is in a file beside it, for clients. Raises Misconfigured.
    """
    try:
        from cryptography import x509  # noqa: PLC0415  it is large, and rarely needed
    except ImportError:
        raise Misconfigured(
            "KURS_SIMULATOR_TLS_PORT: a self-signed certificate needs the Python package cryptography: install it, or "
            "name a certificate of your own in KURS_SIMULATOR_TLS_CERT"
        ) from None
    names = [_subject_name(x509, host) for host in dict.fromkeys(hosts)]
    secret = folder / KEY_AND_CERT_FILE
    try:
        if not _is_usable(x509, secret, names):
            folder.mkdir(parents=True, exist_ok=True)
            key, certificate = _new_certificate(x509, names)
            with os.fdopen(os.open(secret, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
                file.write(key + certificate)
            (folder / CERT_FILE).write_bytes(certificate)
    except OSError as error:
        raise Misconfigured(f"KURS_DATA_DIR: the simulator's certificate cannot be saved: {error}") from None
    return secret


def local_hosts(host: str) -> list[str]:
    """Return the names by which clients may connect to this machine. `host`: the address that it listens on."""
    given = [] if host in ("0.0.0.0", "::") else [host.partition("%")[0]]
    return ["localhost", "127.0.0.1", "::1", socket.gethostname(), "simulator", *given]


def _subject_name(x509: Any, host: str) -> Any:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _is_usable(x509: Any, path: Path, names: list[Any]) -> bool:
    """Whether the file's certificate is for all of these names, and does not expire soon."""
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
        held = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (FileNotFoundError, ValueError, x509.ExtensionNotFound):
        return False
    alone = (path.parent / CERT_FILE).exists()
    return alone and set(names) <= set(held) and datetime.now(UTC) < found.not_valid_after_utc - RENEW_BEFORE_EXPIRY


def _new_certificate(x509: Any, names: list[Any]) -> tuple[bytes, bytes]:
    """Return a key and its certificate, in PEM."""
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    public = key.public_key()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Kurs simulator")])
    builder = x509.CertificateBuilder(subject, subject, public, x509.random_serial_number())
    for extension, critical in (
        (x509.SubjectAlternativeName(names), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectKeyIdentifier.from_public_key(public), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    made = (
        builder.not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + CERT_LIFETIME)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return secret, made.public_bytes(serialization.Encoding.PEM)


def _refuse_password() -> str:
    """Reject a key with a password, which OpenSSL would read from the terminal."""
    raise ValueError("the key has a password")
