"""The vault on both databases: which keys open a secret, rotation, and which master keys are accepted."""

import asyncio
import secrets
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from services.account_ports import AccountStore
from services.accounts.vault import BATCH_SIZE, Vault
from services.adapters.clock import SystemClock
from services.core.accounts.model import DataKey, Person
from services.core.accounts.sealing import CannotOpen
from services.core.accounts.secret_keys import SecretKey
from services.core.errors import Conflict, Misconfigured
from services.key_files import new_key

NOW = 1_800_000_000_000
SECRET = b"an exchange's secret"


class Keyring:
    """The master keys of a process, which a test changes."""

    def __init__(self, *keys: SecretKey) -> None:
        self.keys: Sequence[SecretKey] = keys or (new_key(),)

    def __call__(self) -> Sequence[SecretKey]:
        return self.keys

    def vault(self, store: AccountStore) -> Vault:
        return Vault(store, SystemClock(), self)


async def add_people(store: AccountStore, *names: str) -> None:
    async with store.transaction() as transaction:
        for name in names:
            person = Person(id=name, name=name, password_hash="$", created_at=NOW, password_changed_at=NOW)
            assert await transaction.persons.add(person)


async def seal(vault: Vault, store: AccountStore, person: str = "ann", purpose: str = "binance") -> str:
    async with store.transaction() as transaction:
        return await vault.seal(transaction, person, purpose, SECRET)


async def opened(
    vault: Vault, store: AccountStore, sealed: str, person: str = "ann", purpose: str = "binance"
) -> bytes:
    async with store.transaction() as transaction:
        return await vault.open(transaction, person, purpose, sealed)


async def data_key(store: AccountStore, person: str = "ann") -> DataKey | None:
    async with store.transaction() as transaction:
        return await transaction.keys.data_key(person)


async def test_secret_opens_for_its_person_and_purpose_only(account_store: AccountStore) -> None:
    vault = Keyring().vault(account_store)
    await add_people(account_store, "ann", "bob")
    sealed, of_bob = await seal(vault, account_store), await seal(vault, account_store, "bob")
    assert await opened(vault, account_store, sealed) == SECRET
    assert await seal(vault, account_store) != sealed
    for person, purpose, text in (("bob", "binance", sealed), ("ann", "deribit", sealed), ("ann", "binance", of_bob)):
        with pytest.raises(CannotOpen):
            await opened(vault, account_store, text, person, purpose)
    key, other = await data_key(account_store), await data_key(account_store, "bob")
    assert key
    assert other
    async with account_store.transaction() as transaction:  # an attacker with write access to the table swaps the keys
        assert await transaction.keys.reseal_data_key(other, replace(other, sealed=key.sealed))
    with pytest.raises(CannotOpen):
        await opened(vault, account_store, of_bob, "bob")


async def test_data_key_is_deleted_with_its_person(account_store: AccountStore) -> None:
    vault = Keyring().vault(account_store)
    await add_people(account_store, "ann")
    sealed = await seal(vault, account_store)
    async with account_store.transaction() as transaction:
        await transaction.persons.delete("ann")
    assert await data_key(account_store) is None
    with pytest.raises(CannotOpen, match="deleted"):
        await opened(vault, account_store, sealed)
    with pytest.raises(Conflict):
        await seal(vault, account_store)
    await add_people(account_store, "ann")
    with pytest.raises(CannotOpen):
        await opened(vault, account_store, sealed)


async def test_processes_that_need_a_data_key_at_once_use_the_same(account_store: AccountStore) -> None:
    keyring = Keyring()
    await add_people(account_store, "ann")
    sealed = await asyncio.gather(*(seal(keyring.vault(account_store), account_store) for _ in range(8)))
    for text in sealed:
        assert await opened(keyring.vault(account_store), account_store, text) == SECRET


async def test_wrong_master_key_is_refused_before_anything_is_sealed(account_store: AccountStore) -> None:
    right, wrong = Keyring(), Keyring()
    await right.vault(account_store).check_master_key()
    await right.vault(account_store).check_master_key()
    needed = rf"^KURS_MASTER_KEY is {wrong.keys[0].id}.*, and this database needs {right.keys[0].id}: put that one back"
    for keyring in (wrong, Keyring(*wrong.keys, new_key())):
        with pytest.raises(Misconfigured, match=needed):
            await keyring.vault(account_store).check_master_key()
    await add_people(account_store, "ann")
    with pytest.raises(Misconfigured):
        await seal(wrong.vault(account_store), account_store)
    assert await data_key(account_store) is None
    await Keyring(*wrong.keys, *right.keys).vault(account_store).check_master_key()


async def test_rotation_seals_data_keys_again_and_leaves_secrets_as_they_are(account_store: AccountStore) -> None:
    old, people = Keyring(), [f"p{number:03}" for number in range(2 * BATCH_SIZE + 1)]
    vault = old.vault(account_store)
    await add_people(account_store, *people)
    sealed = {person: await seal(vault, account_store, person) for person in people}
    before = await data_key(account_store, "p000")
    both = Keyring(new_key(), *old.keys)
    result = await both.vault(account_store).reseal()
    assert (result.resealed, result.unopened) == (len(people), [])
    new = Keyring(both.keys[0])
    await new.vault(account_store).check_master_key()
    for person, text in sealed.items():
        assert await opened(new.vault(account_store), account_store, text, person) == SECRET
    after = await data_key(account_store, "p000")
    assert before
    assert after
    assert (before.kek_id, after.kek_id, after.created_at) == (old.keys[0].id, both.keys[0].id, before.created_at)
    with pytest.raises(CannotOpen, match=both.keys[0].id):
        await opened(vault, account_store, sealed["p000"], "p000")
    assert (await new.vault(account_store).reseal()).resealed == 0
    async with account_store.transaction() as transaction:
        assert [row.id for row in await transaction.keys.master_keys()] == [both.keys[0].id]
        entry = await transaction.audit.last()
    assert entry
    assert entry.event.action == "master_key_rotated"


async def test_rotation_waits_for_data_keys_that_others_make_meanwhile(account_store: AccountStore) -> None:
    """A process that has not noticed seals with the old master key until nothing may any more."""
    old = Keyring()
    both, people = Keyring(new_key(), *old.keys), [f"p{number:02}" for number in range(60)]
    await old.vault(account_store).check_master_key()
    await add_people(account_store, *people)
    sealed = dict[str, str]()

    async def register(keyring: Keyring, some: list[str]) -> None:
        for person in some:
            sealed[person] = await seal(keyring.vault(account_store), account_store, person)
            await asyncio.sleep(secrets.randbelow(3) / 1000)

    async def rotate() -> None:
        await asyncio.sleep(0.01)
        await both.vault(account_store).reseal()

    outcomes = await asyncio.gather(
        register(old, people[::2]), register(both, people[1::2]), rotate(), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if outcome]
    assert all(isinstance(outcome, Misconfigured | Conflict) for outcome in refused), refused
    await both.vault(account_store).reseal()
    new = Keyring(both.keys[0]).vault(account_store)
    assert len(sealed) >= len(people) // 2
    for person, text in sealed.items():
        assert await opened(new, account_store, text, person) == SECRET


async def test_data_key_that_does_not_open_stays_with_its_master_key(account_store: AccountStore) -> None:
    old = Keyring()
    both = Keyring(new_key(), *old.keys)
    await add_people(account_store, "ann", "bob")
    sealed = {person: await seal(old.vault(account_store), account_store, person) for person in ("ann", "bob")}
    damaged = await data_key(account_store)
    assert damaged
    async with account_store.transaction() as transaction:
        await transaction.keys.reseal_data_key(damaged, replace(damaged, sealed=damaged.sealed[:-4] + "AAAA"))
    result = await both.vault(account_store).reseal()
    assert (result.resealed, result.unopened) == (1, ["ann"])
    assert await opened(both.vault(account_store), account_store, sealed["bob"], "bob") == SECRET
    async with account_store.transaction() as transaction:
        assert {row.id for row in await transaction.keys.master_keys()} == {key.id for key in both.keys}
        assert await transaction.keys.count_data_keys() == {key.id: 1 for key in both.keys}


async def test_lost_master_key_is_given_up_by_its_id_only(account_store: AccountStore) -> None:
    lost, kurs = Keyring(), Keyring()
    await add_people(account_store, "ann")
    sealed = await seal(lost.vault(account_store), account_store)
    vault = kurs.vault(account_store)
    with pytest.raises(Conflict, match="there is no master key"):
        await vault.discard("00000000")
    with pytest.raises(Conflict, match="is there"):
        await lost.vault(account_store).discard(lost.keys[0].id)
    assert await vault.discard(lost.keys[0].id) == 1
    await vault.check_master_key()
    with pytest.raises(CannotOpen):
        await opened(vault, account_store, sealed)
    assert await opened(vault, account_store, await seal(vault, account_store)) == SECRET
