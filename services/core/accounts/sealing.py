"""Sealed texts: secrets that are encrypted and authenticated with AES-256-GCM, as they are stored.

    s1.1a2b3c4d.nonce and ciphertext in base64url

`s1` is the version of this form, `1a2b3c4d` the id of the key. Both are authenticated, and so is the context: the
words that say what the secret is and whose. A sealed text that is copied to another row does not open there.
"""

from collections.abc import Iterable

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.core.accounts import base64url
from services.core.accounts.secret_keys import KEY_BYTES, SecretKey
from services.core.errors import KursError

VERSION = "s1"
NONCE_BYTES = 12  # random: for one key that is safe up to 2^32 texts (NIST SP 800-38D, section 8.3)


class CannotOpen(KursError):
    """A sealed text cannot be opened."""


class UnknownKey(CannotOpen):
    """The key of a sealed text is missing."""


def seal(key: SecretKey, plaintext: bytes, context: Iterable[str], nonce: bytes) -> str:
    """Encrypt. `nonce`: NONCE_BYTES random bytes, never the same twice with one key."""
    ciphertext = AESGCM(key.reveal()).encrypt(nonce, plaintext, _associated_data(key.id, context))
    return ".".join((VERSION, key.id, base64url.encode(nonce + ciphertext)))


def open_sealed(keys: Iterable[SecretKey], sealed: str, context: Iterable[str]) -> bytes:
    """Decrypt with that one of the keys that the text names.

    Raises UnknownKey if it is missing, CannotOpen if text or context are not those that were sealed.
    """
    name, body = key_id(sealed), sealed.rpartition(".")[2]
    key = next((each for each in keys if each.id == name), None)
    if key is None:
        raise UnknownKey(f"it is sealed with key {name}, which is missing")
    try:
        raw = base64url.decode(body)
        return AESGCM(key.reveal()).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _associated_data(name, context))
    except (InvalidTag, ValueError):
        raise CannotOpen(f"what key {name} has sealed was changed, or is something else") from None


def key_id(sealed: str) -> str:
    """Return the id of the key that a text is sealed with. Raises CannotOpen for another text."""
    match sealed.split("."):
        case [version, name, _] if version == VERSION:
            return name
    raise CannotOpen("this is no sealed text of a version that Kurs knows")


def derive_key(secret: bytes, purpose: str) -> SecretKey:
    """Derive a key from a secret of at least 128 random bits by HKDF (RFC 5869). Each purpose gives another key."""
    hkdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=f"kurs {purpose}".encode())
    return SecretKey(hkdf.derive(secret))


def _associated_data(name: str, context: Iterable[str]) -> bytes:
    """Return what is authenticated beside the ciphertext. A list in JSON keeps its words apart."""
    return msgspec.json.encode([VERSION, name, *context])
