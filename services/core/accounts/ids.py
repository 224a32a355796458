"""Ids of rows: UUIDs of version 7 (RFC 9562), which sort by the time at which they were made."""

from uuid import UUID

RANDOM_BYTES = 10


def uuid7(now_ms: int, random: bytes) -> str:
    """Return the id for a time and `RANDOM_BYTES` random bytes, of which it contains 74 bits."""
    if len(random) < RANDOM_BYTES:
        raise ValueError(f"{len(random)} random bytes are too few: {RANDOM_BYTES} are needed")
    bits = int.from_bytes(random[:RANDOM_BYTES])
    first, last = bits >> 68, bits & (1 << 62) - 1
    return str(UUID(int=(now_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | first << 64 | 0b10 << 62 | last))
