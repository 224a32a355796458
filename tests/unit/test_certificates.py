"""The certificate that a TLS listener makes for itself."""

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from services.core.errors import Misconfigured
from services.web.certificates import local_hosts, self_signed, server_context


def test_certificate_is_reused_while_it_covers_all_names(tmp_path: Path) -> None:
    made = self_signed(tmp_path, local_hosts("0.0.0.0")).read_bytes()
    assert self_signed(tmp_path, local_hosts("::")).read_bytes() == made
    assert b"PRIVATE" not in (tmp_path / "simulator-cert.pem").read_bytes()
    other = self_signed(tmp_path, local_hosts("192.168.7.9")).read_bytes()
    assert other != made
    assert (tmp_path / "simulator-cert.pem").read_bytes() in other


@pytest.mark.parametrize("left", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_invalid_certificate_file_is_replaced(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "simulator-tls.pem").write_bytes(left)
    server_context(self_signed(tmp_path, ["localhost"]), None)


def test_key_of_another_certificate_and_key_with_a_password_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        self_signed(tmp_path / name, ["localhost"])
    with pytest.raises(Misconfigured, match="KURS_SIMULATOR_TLS_KEY"):
        server_context(tmp_path / "one" / "simulator-cert.pem", tmp_path / "two" / "simulator-tls.pem")
    key = serialization.load_pem_private_key((tmp_path / "one" / "simulator-tls.pem").read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    (tmp_path / "locked.pem").write_bytes(locked)
    with pytest.raises(Misconfigured, match="without a password"):
        server_context(tmp_path / "one" / "simulator-cert.pem", tmp_path / "locked.pem")
    assert isinstance(server_context(tmp_path / "one" / "simulator-tls.pem", None), ssl.SSLContext)


def test_folder_that_cannot_be_created_is_refused_with_the_settings_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="KURS_DATA_DIR"):
        self_signed(tmp_path / "file" / "data", ["localhost"])
