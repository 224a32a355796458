"""Key pairs that sign access tokens; data keys, and the master keys that they are sealed with."""

from collections.abc import Mapping

from sqlalchemy import case, delete, exists, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.adapters.sql import dialect
from services.adapters.sql.account_tables import data_keys, master_keys, signing_keys
from services.adapters.sql.rows import to_row, to_struct, to_structs
from services.core.accounts.model import DataKey, MasterKey, SigningKey
from services.core.errors import Conflict


class SqlAccountKeys:
    """Key pairs, data keys and master keys, within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def signing_keys(self) -> list[SigningKey]:
        """Return all key pairs, the oldest first."""
        found = select(signing_keys).order_by(signing_keys.c.number)
        return to_structs(await self._connection.execute(found), SigningKey)

    async def add_signing_key(self, key: SigningKey) -> bool:
        """Add a key pair. Return False if its number is taken."""
        new = dialect.insert(self._connection, signing_keys).values(to_row(key)).on_conflict_do_nothing()
        return (await self._connection.execute(new)).rowcount == 1

    async def retire_signing_keys(self, below: int, retired_at: int, expires_at: int) -> None:
        """Retire the key pairs of lower numbers. Those that are retired already may expire earlier, never later."""
        columns = signing_keys.c
        values = {
            columns.retired_at: func.coalesce(columns.retired_at, retired_at),
            columns.expires_at: case((columns.expires_at < expires_at, columns.expires_at), else_=expires_at),
        }
        await self._connection.execute(update(signing_keys).where(columns.number < below).values(values))

    async def delete_signing_keys(self, expired_before: int) -> None:
        """Delete key pairs that have expired."""
        await self._connection.execute(delete(signing_keys).where(signing_keys.c.expires_at < expired_before))

    async def master_keys(self) -> list[MasterKey]:
        """Return all master keys, the oldest first."""
        found = select(master_keys).order_by(master_keys.c.created_at, master_keys.c.id)
        return to_structs(await self._connection.execute(found), MasterKey)

    async def add_master_key(self, key: MasterKey) -> None:
        """Add a master key, unless its id is there."""
        new = dialect.insert(self._connection, master_keys).values(to_row(key)).on_conflict_do_nothing()
        await self._connection.execute(new)

    async def delete_unused_master_keys(self, but: str) -> None:
        """Delete master keys that no data key is sealed with, except one. Raises Conflict if one is used meanwhile."""
        used = exists().where(data_keys.c.kek_id == master_keys.c.id)
        try:
            await self._connection.execute(delete(master_keys).where(master_keys.c.id != but, ~used))
        except IntegrityError:
            raise Conflict("a data key was made meanwhile with a master key that had none") from None

    async def data_key(self, person: str) -> DataKey | None:
        """Return a person's data key."""
        row = (await self._connection.execute(select(data_keys).where(data_keys.c.person == person))).first()
        return to_struct(row, DataKey) if row else None

    async def add_data_key(self, key: DataKey) -> bool:
        """Add a data key. Return False if the person has one. Raises Conflict if person or master key are gone."""
        new = dialect.insert(self._connection, data_keys).values(to_row(key)).on_conflict_do_nothing()
        try:
            return (await self._connection.execute(new)).rowcount == 1
        except IntegrityError:
            raise Conflict(f"there is no person {key.person}, or no master key {key.kek_id} any more") from None

    async def data_keys_not_sealed_with(self, kek_id: str, after: str, limit: int) -> list[DataKey]:
        """Return data keys that other master keys seal, of persons with higher ids, in their order."""
        other = data_keys.c.kek_id != kek_id, data_keys.c.person > after
        found = select(data_keys).where(*other).order_by(data_keys.c.person).limit(limit)
        return to_structs(await self._connection.execute(found), DataKey)

    async def reseal_data_key(self, former: DataKey, key: DataKey) -> bool:
        """Replace a data key's sealed form. Return False if it is no longer the former one."""
        same = data_keys.c.person == former.person, data_keys.c.sealed == former.sealed
        changed = update(data_keys).where(*same).values(kek_id=key.kek_id, sealed=key.sealed)
        return (await self._connection.execute(changed)).rowcount == 1

    async def count_data_keys(self) -> Mapping[str, int]:
        """Return the number of data keys by the master keys that seal them."""
        counted = select(data_keys.c.kek_id, func.count()).group_by(data_keys.c.kek_id)
        return {row[0]: row[1] for row in await self._connection.execute(counted)}

    async def delete_data_keys(self, kek_id: str) -> int:
        """Delete the data keys that a master key seals. Return how many."""
        return (await self._connection.execute(delete(data_keys).where(data_keys.c.kek_id == kek_id))).rowcount
