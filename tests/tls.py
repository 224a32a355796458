"""TLS in front of a plain server, and certificates for it."""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.relay import LOOPBACK, copy_stream

PEM = "tls.pem"


@asynccontextmanager
async def tls_proxy(port: int, folder: Path, *names: str) -> AsyncIterator[tuple[int, ssl.SSLContext]]:
    """Yield a TLS port in front of `port`, and a client's context. The certificate, `folder / PEM`, has these names."""
    ours, theirs = tls_contexts(folder, *names)

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(LOOPBACK, port)
        await asyncio.gather(copy_stream(reader, inner_writer), copy_stream(inner_reader, writer))

    server = await asyncio.start_server(join, LOOPBACK, 0, ssl=ours)
    async with server:
        yield server.sockets[0].getsockname()[1], theirs


def tls_contexts(folder: Path, *names: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's context, and that of a client that trusts its certificate."""
    certificate = _certificate(folder, names)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate)
    return server, ssl.create_default_context(cafile=certificate)


def _certificate(folder: Path, names: Sequence[str]) -> Path:
    """Write a key and a certificate for this machine and these names, valid for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, LOOPBACK)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(list(map(_general_name, (LOOPBACK, *names)))), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / PEM
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
