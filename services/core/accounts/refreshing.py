"""Refresh tokens: each is exchanged for a successor, once, and one that is presented again ends the sign-in.

Clients send the same token twice without any thief: two tabs at once, or a retry after a lost response. So for a short
time the predecessor gets the same successor again, while that is unused. It is stored sealed with a key that only the
predecessor gives, so that the database alone opens nothing.
"""

from services.core.accounts.model import Rotation, SignIn
from services.core.accounts.sealing import derive_key, open_sealed, seal
from services.core.accounts.secret_keys import SecretKey
from services.core.accounts.token_format import family_of, hash_token

LIFETIME_MS = 30 * 24 * 60 * 60 * 1000  # without use
REPEAT_MS = 30_000  # in which the predecessor gets the same successor


def rotation(presented: str, successor: str, now: int, nonce: bytes) -> Rotation:
    """Return the exchange of a token for its successor. `nonce`: random bytes for the seal."""
    return Rotation(
        previous_hash=hash_token(presented),
        refresh_hash=hash_token(successor),
        successor=seal(_key(presented), successor.encode(), _context(presented), nonce),
        rotated_at=now,
        expires_at=now + LIFETIME_MS,
    )


def repeated_successor(sign_in: SignIn, presented: str, now: int) -> str | None:
    """Return the successor that a token has been exchanged for, None if it may not be had again.

    After a use of the successor, `previous_hash` is the successor's.
    """
    if sign_in.previous_hash != hash_token(presented) or sign_in.rotated_at is None or sign_in.successor is None:
        return None
    if now - sign_in.rotated_at > REPEAT_MS:
        return None
    return open_sealed([_key(presented)], sign_in.successor, _context(presented)).decode()


def _key(presented: str) -> SecretKey:
    return derive_key(presented.encode(), "successor of a refresh token")


def _context(presented: str) -> tuple[str, str]:
    return "successor", hash_token(family_of(presented))
