"""Hashes of passwords: Argon2id (RFC 9106) in PHC form, with the parameters in the text."""

from typing import NamedTuple

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

SALT_BYTES, HASH_BYTES = 16, 32


class Argon2Parameters(NamedTuple):
    """What a hash costs. `memory_kib` in units of 1024 bytes."""

    memory_kib: int
    iterations: int
    lanes: int

    @property
    def prefix(self) -> str:
        """The beginning of every hash with these parameters."""
        return f"$argon2id$v=19$m={self.memory_kib},t={self.iterations},p={self.lanes}$"


# The first that OWASP's Password Storage Cheat Sheet recommends. It takes 65 ms on one core.
PARAMETERS = Argon2Parameters(memory_kib=47_104, iterations=1, lanes=1)
# Of no password. It is compared where a name is unknown, so that this takes as long as a wrong password.
NO_PASSWORD = f"{PARAMETERS.prefix}{'A' * 22}${'A' * 43}"


def hash_password(password: str, salt: bytes, parameters: Argon2Parameters = PARAMETERS) -> str:
    """Return the hash of a password with `SALT_BYTES` random bytes."""
    argon2 = Argon2id(
        salt=salt,
        length=HASH_BYTES,
        iterations=parameters.iterations,
        lanes=parameters.lanes,
        memory_cost=parameters.memory_kib,
    )
    return argon2.derive_phc_encoded(password.encode())


def verify_password(password: str, password_hash: str) -> bool:
    """Return whether a hash is that of a password."""
    try:
        Argon2id.verify_phc_encoded(password.encode(), password_hash)
    except InvalidKey:
        return False
    return True


def needs_rehash(password_hash: str, parameters: Argon2Parameters = PARAMETERS) -> bool:
    """Return whether a hash was made with other parameters."""
    return not password_hash.startswith(parameters.prefix)
