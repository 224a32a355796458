"""The key pairs that sign access tokens. All replicas share those of the table, and notice changes within seconds."""

import asyncio
import logging
import math
import secrets
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from services.account_changes import Origin
from services.account_ports import AccountStore
from services.core.accounts import sealing
from services.core.accounts.model import SigningKey
from services.core.accounts.sealing import CannotOpen
from services.core.accounts.secret_keys import SecretKey
from services.core.errors import Conflict, Misconfigured, Unavailable
from services.log_throttle import ThrottledLog
from services.ports import Clock

REREAD_MS = 5_000  # after this time the table is read again
REREAD_FOR_UNKNOWN_MS = 1_000  # the same, where a token names a key that is not known
OVERLAP_MS = 900_000  # for which a retired key verifies: longer than any token lives that it has signed
FIRST_NUMBER = 1
log = ThrottledLog(logging.getLogger(__name__))


class KeyPair(NamedTuple):
    """A key pair that this process can use."""

    row: SigningKey
    private: Ed25519PrivateKey
    public: Ed25519PublicKey

    @property
    def public_bytes(self) -> bytes:
        """The 32 bytes of the public key."""
        return self.public.public_bytes_raw()

    def verifies_at(self, now: int) -> bool:
        """Whether tokens that it has signed are valid."""
        return self.row.expires_at is None or now < self.row.expires_at


class SigningKeys:
    """The key pairs of the table, as this process has read them last.

    A row is used only if the token key opens it, so access to the database is not enough to add one.
    """

    def __init__(self, accounts: AccountStore, clock: Clock, load_keys: Callable[[], Sequence[SecretKey]]) -> None:
        self._accounts, self._clock, self._load_keys = accounts, clock, load_keys
        self._pairs: dict[str, KeyPair] = {}
        self._newest: SigningKey | None = None
        self._read_at = -math.inf
        self._failure: Unavailable | None = None
        self._reading = asyncio.Lock()

    async def signing(self) -> KeyPair:
        """Return the pair that signs now; the first use makes the first one. Do not call it within a transaction.

        Raises Unavailable, and CannotOpen where the token key is another one than that of the newest pair.
        """
        await self._read(REREAD_MS)
        if self._failure:
            raise self._failure
        if self._newest is None:
            await self._make_first()
            await self._read(0)
        if self._newest is None:
            raise Unavailable("the first key that signs access tokens was deleted at once")
        if self._newest.kid not in self._pairs:
            raise CannotOpen(self._why_unusable(self._newest))
        return self._pairs[self._newest.kid]

    async def public_key(self, kid: str) -> Ed25519PublicKey | None:
        """Return the public key of an id, None where no valid token has it. Do not call it within a transaction.

        Raises Unavailable only for an id that was not read yet.
        """
        await self._read(REREAD_MS if kid in self._pairs else REREAD_FOR_UNKNOWN_MS)
        pair = self._pairs.get(kid)
        if pair is None and self._failure:
            raise self._failure
        return pair.public if pair and pair.verifies_at(self._clock.now()) else None

    async def verifying(self) -> list[KeyPair]:
        """Return all pairs whose tokens are valid, the oldest first. Raises Unavailable."""
        await self._read(REREAD_FOR_UNKNOWN_MS)
        if self._failure:
            raise self._failure
        return [pair for pair in self._pairs.values() if pair.verifies_at(self._clock.now())]

    async def check_token_key(self) -> None:
        """Check that this process can use the pair that signs. Raises Misconfigured, Unavailable."""
        await self._read(0)
        if self._failure:
            raise self._failure
        if self._newest and self._newest.kid not in self._pairs:
            raise Misconfigured(self._why_unusable(self._newest))

    async def rotate(self, at_once: bool) -> SigningKey:
        """Make the pair that signs from now on, and return it. The former ones verify until their tokens have expired.

        `at_once`: they verify no more. Raises Conflict when another process does the same.
        """
        now, token_key = self._clock.now(), self._load_keys()[0]
        async with self._accounts.transaction() as transaction:
            keys = transaction.keys
            rows = await keys.signing_keys()
            new = _new_pair(rows[-1].number + 1 if rows else FIRST_NUMBER, token_key, now)
            if not await keys.add_signing_key(new):
                raise Conflict("another command has just made a new key: that one signs now")
            await keys.retire_signing_keys(new.number, now, now if at_once else now + OVERLAP_MS)
            await keys.delete_signing_keys(now)
            event = Origin(now).done("signing_key_rotated", "", kid=new.kid, at_once=str(at_once).lower())
            await transaction.audit.append(event, now)
        self._read_at = -math.inf
        return new

    def _why_unusable(self, row: SigningKey) -> str:
        own, needed = ", ".join(key.id for key in self._load_keys()), sealing.key_id(row.sealed)
        return (
            f"KURS_TOKEN_KEY is {own}, and the key that signs access tokens is sealed with {needed}: put that one "
            "back, or make a new key by `kurs keys rotate --at-once`"
        )

    async def _make_first(self) -> None:
        now = self._clock.now()
        async with self._accounts.transaction() as transaction:
            await transaction.keys.add_signing_key(_new_pair(FIRST_NUMBER, self._load_keys()[0], now))

    async def _read(self, max_age_ms: int) -> None:
        """Read the table, unless that was tried more recently. Keep what is known where it cannot be read."""
        if self._clock.monotonic() - self._read_at < max_age_ms:
            return
        async with self._reading:
            if self._clock.monotonic() - self._read_at < max_age_ms:
                return
            try:
                async with self._accounts.transaction() as transaction:
                    self._use(await transaction.keys.signing_keys())
                self._failure = None
            except Unavailable as error:
                self._failure = error
            self._read_at = self._clock.monotonic()

    def _use(self, rows: Sequence[SigningKey]) -> None:
        token_keys, now = self._load_keys() if rows else (), self._clock.now()
        self._newest = rows[-1] if rows else None
        rows = [row for row in rows if row.expires_at is None or now < row.expires_at]
        opened = [self._pairs.get(row.kid) or _open(row, token_keys) for row in rows]
        self._pairs = {row.kid: pair._replace(row=row) for row, pair in zip(rows, opened, strict=True) if pair}


def _new_pair(number: int, token_key: SecretKey, now: int) -> SigningKey:
    private = Ed25519PrivateKey.generate()
    kid = _kid(private.public_key())
    nonce = secrets.token_bytes(sealing.NONCE_BYTES)
    sealed = sealing.seal(token_key, private.private_bytes_raw(), _context(kid), nonce)
    return SigningKey(kid=kid, number=number, sealed=sealed, created_at=now)


def _open(row: SigningKey, token_keys: Sequence[SecretKey]) -> KeyPair | None:
    try:
        private = Ed25519PrivateKey.from_private_bytes(sealing.open_sealed(token_keys, row.sealed, _context(row.kid)))
    except CannotOpen as error:
        log.warning("signing keys: %s is not used: %s", row.kid, error)
        return None
    return KeyPair(row, private, private.public_key())


def _kid(public: Ed25519PublicKey) -> str:
    return sha256(public.public_bytes_raw()).hexdigest()[:16]


def _context(kid: str) -> tuple[str, str]:
    return "signing_key", kid
