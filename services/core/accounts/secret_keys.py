"""Secret keys: 32 random bytes, written in base64url. Of several, the first encrypts and the others still decrypt."""

import re
from hashlib import sha256
from itertools import pairwise

from services.core.accounts import base64url

KEY_BYTES = 32
HOW_TO_MAKE = 'python3 -c "import secrets; print(secrets.token_urlsafe(32))" makes one'
SEPARATORS = re.compile(r"[\s,]+")
MIN_DISTINCT = 16  # bytes, and steps from one byte to the next; fewer in random bytes: less than once in 10^15


class SecretKey:
    """A key that no repr, format or pickle contains.

    `id`: the first 8 hexadecimal digits of its SHA-256, by which a sealed text names it.
    """

    __slots__ = ("_bytes", "id")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
        self._bytes = key
        self.id = sha256(key).hexdigest()[:8]

    def reveal(self) -> bytes:
        """Return the secret bytes."""
        return self._bytes

    def __repr__(self) -> str:
        return f"SecretKey({self.id})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretKey) and self._bytes == other._bytes

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __reduce__(self) -> str:
        raise TypeError("a secret key is not pickled")


def split_keys(text: str) -> list[str]:
    """Return the texts of keys that are separated by commas, spaces or line ends."""
    return [word for word in SEPARATORS.split(text) if word]


def parse_keys(text: str) -> tuple[SecretKey, ...]:
    """Parse keys. Raises ValueError, without the text, for one that is wrong, weak, or there twice."""
    keys = tuple(map(_parse_key, split_keys(text)))
    if len(set(keys)) < len(keys):
        raise ValueError("a key is there twice: each of them must be another one")
    return keys


def format_key(key: SecretKey) -> str:
    """Return a key as `parse_keys` reads it."""
    return base64url.encode(key.reveal())


def _parse_key(text: str) -> SecretKey:
    try:
        key = base64url.decode(text.translate(str.maketrans("+/", "-_")).rstrip("="))
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key is {KEY_BYTES} random bytes in base64url, 43 characters; {HOW_TO_MAKE}")
    if weakness := _weakness(key, text):
        raise ValueError(f"a key must be random, and this one {weakness}; {HOW_TO_MAKE}")
    return SecretKey(key)


def _weakness(key: bytes, text: str) -> str:
    """Return what shows that a key is not random, "" if nothing does."""
    steps = {(after - before) % 256 for before, after in pairwise(key)}
    if min(len(set(key)), len(steps)) < MIN_DISTINCT:
        return "repeats itself"
    if all(32 <= byte < 127 for byte in key):
        return "is text"
    if text in (text.lower(), text.upper()):
        return "is made of words"
    return ""
