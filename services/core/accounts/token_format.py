"""Opaque tokens: `kurs_`, a letter for their kind, `_`, random characters, and a checksum.

The prefix lets secret scanners and the log filter find them. The checksum lets a mistyped or invented token be refused
before the database is queried. Only hashes are stored: a random text of this length needs no slow one.
"""

import re
from enum import StrEnum
from hashlib import sha256
from string import ascii_letters, digits
from zlib import crc32

BASE62 = digits + ascii_letters
CHECKSUM_LENGTH = 6  # 62 ** 6 > 2 ** 32
FAMILY_LENGTH = 16
SHOWN_LENGTH = 11  # the prefix and four characters, by which its owner recognizes a token
RANDOM_BYTES = 48


class TokenType(StrEnum):
    """What an opaque token is for, by its letter."""

    PERSONAL = "p"  # a person's program
    SIGNAL = "s"  # a feed of signals
    TICKET = "t"  # one connection to a live stream
    REFRESH = "r"
    INVITATION = "i"  # one registration


RANDOM_LENGTHS = dict.fromkeys(TokenType, 30) | {TokenType.REFRESH: FAMILY_LENGTH + 30}
PATTERN = re.compile(f"kurs_([{''.join(TokenType)}])_([0-9A-Za-z]+)")


def new_token(kind: TokenType, random: bytes, family: str = "") -> str:
    """Return the token that `RANDOM_BYTES` random bytes give. `family`: the first characters of a refresh token."""
    if len(random) < RANDOM_BYTES:
        raise ValueError(f"{len(random)} random bytes are too few: {RANDOM_BYTES} are needed")
    body = f"kurs_{kind}_{family}{_base62(int.from_bytes(random), RANDOM_LENGTHS[kind] - len(family))}"
    return body + _checksum(body)


def check_token(text: str) -> TokenType | None:
    """Return the kind of a token, None for a text that is none."""
    match = PATTERN.fullmatch(text)
    if match is None:
        return None
    kind, is_whole = TokenType(match[1]), _checksum(text[:-CHECKSUM_LENGTH]) == text[-CHECKSUM_LENGTH:]
    return kind if is_whole and len(match[2]) == RANDOM_LENGTHS[kind] + CHECKSUM_LENGTH else None


def family_of(refresh_token: str) -> str:
    """Return the characters that a refresh token shares with its successors."""
    return refresh_token.removeprefix(f"kurs_{TokenType.REFRESH}_")[:FAMILY_LENGTH]


def hash_token(text: str) -> str:
    """Return what is stored of a token, or of a family: hex SHA-256."""
    return sha256(text.encode()).hexdigest()


def _checksum(text: str) -> str:
    return _base62(crc32(text.encode()), CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    """Return the last `length` digits of a number. Of 48 random bytes, each digit is as likely as any other."""
    characters = []
    for _ in range(length):
        number, digit = divmod(number, len(BASE62))
        characters.append(BASE62[digit])
    return "".join(reversed(characters))
