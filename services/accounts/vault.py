"""The vault: what people entrust to Kurs is sealed with a data key of their own, and that with the master key.

    master key (in no database) → data key of a person (table data_keys) → secrets of the person (other tables)

With a person's row the data key is deleted, and nothing that it sealed can be opened again, not even in a backup of the
other tables. Another master key seals the data keys again, and leaves the secrets as they are.
"""

import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple

from services.account_changes import Origin
from services.account_ports import AccountStore, AccountTransaction
from services.core.accounts import sealing
from services.core.accounts.model import DataKey, MasterKey
from services.core.accounts.sealing import CannotOpen, open_sealed, seal
from services.core.accounts.secret_keys import KEY_BYTES, SecretKey
from services.core.errors import Conflict, Misconfigured
from services.ports import Clock

BATCH_SIZE = 100  # data keys that one transaction seals again
CHECKED = b"kurs"  # what a check value seals


class ResealResult(NamedTuple):
    """How many data keys were sealed again, and the people whose data key no master key opens."""

    resealed: int
    unopened: Sequence[str]


class Vault:
    """Seals and opens secrets of people. `load_keys` returns the master keys as they are now, the newest first.

    Every method with a transaction works within it; the others begin their own.
    """

    def __init__(self, accounts: AccountStore, clock: Clock, load_keys: Callable[[], Sequence[SecretKey]]) -> None:
        self._accounts, self._clock, self._load_keys = accounts, clock, load_keys

    async def seal(self, transaction: AccountTransaction, person: str, purpose: str, secret: bytes) -> str:
        """Seal a person's secret for one purpose. The person's first one makes the data key."""
        key = await self.data_key(transaction, person)
        return seal(key, secret, _secret_context(person, purpose), _nonce())

    async def open(self, transaction: AccountTransaction, person: str, purpose: str, sealed: str) -> bytes:
        """Open what was sealed for that person and purpose. Raises CannotOpen."""
        row = await transaction.keys.data_key(person)
        if row is None:
            raise CannotOpen("the person's data key was deleted")
        return open_sealed([self._open_data_key(row)], sealed, _secret_context(person, purpose))

    async def data_key(self, transaction: AccountTransaction, person: str) -> SecretKey:
        """Return a person's data key, which is made if there is none. Raises Conflict if the person is gone."""
        row = await transaction.keys.data_key(person)
        if row is None:
            master_key = (await self._usable_keys(transaction))[0]
            key = SecretKey(secrets.token_bytes(KEY_BYTES))
            if await transaction.keys.add_data_key(_sealed_data_key(person, key, master_key, self._clock.now())):
                return key
            row = await transaction.keys.data_key(person)  # another process has made it
        if row is None:
            raise Conflict(f"the person {person} was deleted meanwhile")
        return self._open_data_key(row)

    async def check_master_key(self) -> None:
        """Check that the master keys are those of this database, and register a new one. Raises Misconfigured."""
        async with self._accounts.transaction() as transaction:
            await self._usable_keys(transaction)

    async def reseal(self) -> ResealResult:
        """Seal every data key with the first master key, a few in one transaction; then forget the unused master keys.

        It can be stopped at any moment and called again. Others may make data keys meanwhile, with any master key.
        """
        resealed, unopened = 0, list[str]()
        while True:
            count, unopened = await self._reseal_all()
            resealed += count
            if count == 0 and await self._forget_unused(resealed):
                return ResealResult(resealed, unopened)

    async def discard(self, master_key: str) -> int:
        """Delete the data keys that a lost master key seals. Return how many people lose what they had entrusted."""
        if master_key in {key.id for key in self._load_keys()}:
            raise Conflict(f"the master key {master_key} is there, so nothing has to be discarded")
        async with self._accounts.transaction() as transaction:
            if master_key not in {row.id for row in await transaction.keys.master_keys()}:
                raise Conflict(f"there is no master key {master_key}; `kurs vault list` names all")
            deleted = await transaction.keys.delete_data_keys(master_key)
            await transaction.keys.delete_unused_master_keys(but=self._load_keys()[0].id)
            await self._log(transaction, "data_keys_discarded", master_key, deleted)
        return deleted

    async def _reseal_all(self) -> tuple[int, list[str]]:
        resealed, unopened, after = 0, list[str](), ""
        while True:
            async with self._accounts.transaction() as transaction:
                first = (await self._usable_keys(transaction, may_lack=True))[0]
                rows = await transaction.keys.data_keys_not_sealed_with(first.id, after, BATCH_SIZE)
                for row in rows:
                    try:
                        key = self._open_data_key(row)
                    except CannotOpen:
                        unopened.append(row.person)
                        continue
                    new = _sealed_data_key(row.person, key, first, row.created_at)
                    resealed += await transaction.keys.reseal_data_key(row, new)
            if not rows:
                return resealed, unopened
            after = rows[-1].person

    async def _forget_unused(self, resealed: int) -> bool:
        """Delete the master keys that seal nothing any more. Return False if one is used again meanwhile."""
        try:
            async with self._accounts.transaction() as transaction:
                first = self._load_keys()[0].id
                await transaction.keys.delete_unused_master_keys(but=first)
                await self._log(transaction, "master_key_rotated", first, resealed)
        except Conflict:
            return False
        return True

    async def _log(self, transaction: AccountTransaction, action: str, master_key: str, count: int) -> None:
        origin = Origin(self._clock.now())
        await transaction.audit.append(origin.done(action, "", master_key=master_key, data_keys=str(count)), origin.at)

    async def _usable_keys(self, transaction: AccountTransaction, may_lack: bool = False) -> Sequence[SecretKey]:
        """Return the master keys, the first of them registered.

        Raises Misconfigured for a wrong one, and for a missing one unless `may_lack`.
        """
        rows = await transaction.keys.master_keys()
        keys = self._load_keys()
        for row in rows:
            try:
                open_sealed(keys, row.check_value, _check_context(row.id))
            except CannotOpen:
                if not may_lack:
                    raise Misconfigured(_missing(row.id, keys)) from None
        if keys[0].id not in {row.id for row in rows}:
            check_value = seal(keys[0], CHECKED, _check_context(keys[0].id), _nonce())
            new = MasterKey(id=keys[0].id, check_value=check_value, created_at=self._clock.now())
            await transaction.keys.add_master_key(new)
        return keys

    def _open_data_key(self, row: DataKey) -> SecretKey:
        """Open a data key that was read before: a rotation writes the new master key before it seals with it."""
        return SecretKey(open_sealed(self._load_keys(), row.sealed, _data_key_context(row.person)))


def _sealed_data_key(person: str, key: SecretKey, master_key: SecretKey, created_at: int) -> DataKey:
    sealed = seal(master_key, key.reveal(), _data_key_context(person), _nonce())
    return DataKey(person=person, kek_id=master_key.id, sealed=sealed, created_at=created_at)


def _missing(name: str, keys: Sequence[SecretKey]) -> str:
    own = ", ".join(key.id for key in keys)
    return (
        f"KURS_MASTER_KEY is {own}, and this database needs {name}: put that one back. If it is lost for good, so is "
        f"what people entrusted: `kurs vault discard {name}` then lets Kurs start again"
    )


def _nonce() -> bytes:
    return secrets.token_bytes(sealing.NONCE_BYTES)


def _data_key_context(person: str) -> tuple[str, ...]:
    return "data_key", person


def _secret_context(person: str, purpose: str) -> tuple[str, ...]:
    return "secret", person, purpose


def _check_context(master_key: str) -> tuple[str, ...]:
    return "master_key", master_key
