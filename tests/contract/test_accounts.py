"""People, invitations, sign-ins and API tokens: what the store promises on either database, also under load."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from services.account_ports import AccountStore, AccountTransaction
from services.adapters.sql import accounts
from services.core.accounts.model import (
    ApiToken,
    Invitation,
    Person,
    PersonState,
    RevokeReason,
    Rotation,
    SignIn,
)
from services.core.accounts.scopes import PersonRole

NOW, HOUR = 1_800_000_000_000, 3_600_000
T = TypeVar("T")


def person(name: str = "ann", **changes: Any) -> Person:
    fields = {"id": f"id-{name}", "name": name, "password_hash": "$argon2id$", "created_at": NOW}
    return Person(**{**fields, "password_changed_at": NOW, **changes})


def invitation(name: str = "one", **changes: Any) -> Invitation:
    fields = {"id": f"id-{name}", "code_hash": f"hash-{name}", "created_by": "", "created_at": NOW}
    return Invitation(**{**fields, "expires_at": NOW + HOUR, **changes})


def sign_in(name: str = "phone", **changes: Any) -> SignIn:
    fields: dict[str, Any] = {"id": f"id-{name}", "person": "id-ann", "family_hash": f"family-{name}"}
    fields |= {"refresh_hash": f"{name}-0", "created_at": NOW, "last_used_at": NOW, "expires_at": NOW + HOUR}
    return SignIn(**{**fields, "address": "192.0.2.1", "agent": "tests", **changes})


def rotation(presented: str, number: int, at: int = NOW + 1) -> Rotation:
    name = presented.rpartition("-")[0]
    return Rotation(
        previous_hash=presented,
        refresh_hash=f"{name}-{number}",
        successor=f"sealed-{number}",
        rotated_at=at,
        expires_at=at + HOUR,
    )


def api_token(name: str = "bot", **changes: Any) -> ApiToken:
    fields: dict[str, Any] = {
        "id": f"id-{name}",
        "person": "id-ann",
        "kind": "p",
        "name": name,
        "prefix": "kurs_p_Ab12",
    }
    fields |= {"hash": f"hash-{name}", "scopes": "read", "created_at": NOW, "expires_at": NOW + HOUR}
    return ApiToken(**{**fields, **changes})


async def run(store: AccountStore, change: Callable[[AccountTransaction], Awaitable[T]]) -> T:
    async with store.transaction() as tx:
        return await change(tx)


@pytest.fixture
async def store(account_store: AccountStore) -> AccountStore:
    """A store with one person."""
    assert await run(account_store, lambda tx: tx.persons.add(person()))
    return account_store


async def in_parallel(url: str, count: int, change: Callable[[AccountTransaction, int], Awaitable[T]]) -> list[T]:
    """Run changes at the same time, in transactions of two processes' stores."""
    async with AsyncExitStack() as stack:
        stores = [accounts.connect(url) for _ in range(2)]
        for each in stores:
            stack.push_async_callback(each.close)
        return await asyncio.gather(
            *(run(stores[number % 2], lambda tx, n=number: change(tx, n)) for number in range(count))  # type: ignore[misc]
        )


async def test_person_is_found_by_id_and_name(store: AccountStore) -> None:
    async with store.transaction() as tx:
        assert await tx.persons.get("id-ann") == await tx.persons.named("ann") == await tx.persons.lock("id-ann")
        assert await tx.persons.get("id-ann") == person()
        assert [await tx.persons.get("ann"), await tx.persons.named("Ann"), await tx.persons.lock("x")] == [None] * 3
        assert not await tx.persons.has_admin()
        for name in ("bob", "cyd", "dan"):
            await tx.persons.add(person(name, role=PersonRole.ADMIN if name == "dan" else PersonRole.TRADER))
        assert await tx.persons.has_admin()
        assert [each.name for each in await tx.persons.page("", 2)] == ["ann", "bob"]
        assert [each.name for each in await tx.persons.page("id-bob", 9)] == ["cyd", "dan"]


async def test_of_equal_names_one_is_added(store: AccountStore, url: str) -> None:
    added = await in_parallel(url, 10, lambda tx, number: tx.persons.add(person("bob", id=f"id-{number}")))
    assert sorted(added) == [False] * 9 + [True]
    assert not await run(store, lambda tx: tx.persons.add(person(id="other")))


async def test_passwords_and_states_change(store: AccountStore) -> None:
    async with store.transaction() as tx:
        await tx.persons.set_password("id-ann", "new", NOW + 1)
        assert await tx.persons.set_state("id-ann", PersonState.DISABLED)
        assert not await tx.persons.set_state("id-ann", PersonState.DISABLED)
        assert not await tx.persons.set_state("id-bob", PersonState.DISABLED)
        assert await tx.persons.get("id-ann") == person(
            password_hash="new", password_changed_at=NOW + 1, state=PersonState.DISABLED
        )


async def test_deleted_person_leaves_nothing(store: AccountStore) -> None:
    async with store.transaction() as tx:
        await tx.sign_ins.add(sign_in(), most=9)
        await tx.api_tokens.add(api_token(), most=9)
        assert await tx.persons.delete("id-ann")
        assert not await tx.persons.delete("id-ann")
    async with store.transaction() as tx:
        assert await tx.persons.get("id-ann") is None
        assert await tx.sign_ins.get("id-phone") is None
        assert await tx.api_tokens.find("hash-bot", NOW) is None


async def test_transaction_that_fails_changes_nothing(store: AccountStore) -> None:
    async def fail(tx: AccountTransaction) -> None:
        await tx.persons.add(person("bob"))
        await tx.persons.delete("id-ann")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run(store, fail)
    assert await run(store, lambda tx: tx.persons.page("", 9)) == [person()]


async def test_invitation_is_used_once(store: AccountStore, url: str) -> None:
    await run(store, lambda tx: tx.persons.add_invitation(invitation()))
    assert await run(store, lambda tx: tx.persons.invitation("hash-one", NOW)) == invitation()
    used = await in_parallel(url, 10, lambda tx, number: tx.persons.use_invitation("hash-one", str(number), NOW))
    assert sorted(used) == [False] * 9 + [True]
    assert await run(store, lambda tx: tx.persons.invitation("hash-one", NOW)) is None
    assert await run(store, lambda tx: tx.persons.invitations(NOW, 9)) == []


async def test_invitation_ends_when_it_expires(store: AccountStore) -> None:
    one, two = invitation(), invitation("two", created_at=NOW + 1, expires_at=NOW + 2 * HOUR)
    async with store.transaction() as tx:
        await tx.persons.add_invitation(one)
        await tx.persons.add_invitation(two)
        assert await tx.persons.invitations(NOW, 9) == [two, one]
        assert await tx.persons.invitations(NOW, 1) == [two]
        assert await tx.persons.invitations(NOW + HOUR, 9) == [two]
        assert not await tx.persons.use_invitation("hash-one", "id-bob", NOW + HOUR)
        assert await tx.persons.delete_invitations(NOW + HOUR + 1) == 1
        assert await tx.persons.invitations(NOW, 9) == [two]


@pytest.mark.parametrize("earlier", [False, True])
async def test_of_processes_that_renew_an_invitation_at_once_one_succeeds(
    store: AccountStore, url: str, earlier: bool
) -> None:
    if earlier:
        old = invitation("first", created_at=NOW - HOUR)
        assert await run(store, lambda tx: tx.persons.renew_invitation(old, made_before=NOW))

    async def renew(tx: AccountTransaction, number: int) -> bool:
        return await tx.persons.renew_invitation(invitation("first", code_hash=str(number)), made_before=NOW - 1)

    renewed = await in_parallel(url, 10, renew)
    assert sorted(renewed) == [False] * 9 + [True]
    (stored,) = await run(store, lambda tx: tx.persons.invitations(NOW, 9))
    assert stored.code_hash == str(renewed.index(True))


async def test_of_parallel_rotations_one_succeeds(store: AccountStore, url: str) -> None:
    await run(store, lambda tx: tx.sign_ins.add(sign_in(), most=9))
    rotated = await in_parallel(url, 20, lambda tx, number: tx.sign_ins.rotate(rotation("phone-0", number + 1)))
    (winner,) = filter(None, rotated)
    assert await run(store, lambda tx: tx.sign_ins.of_family("family-phone")) == winner
    assert winner == replace(
        sign_in(),
        refresh_hash=f"phone-{rotated.index(winner) + 1}",
        previous_hash="phone-0",
        successor=f"sealed-{rotated.index(winner) + 1}",
        rotated_at=NOW + 1,
        last_used_at=NOW + 1,
        expires_at=NOW + 1 + HOUR,
    )


async def test_only_active_sign_ins_are_rotated(store: AccountStore) -> None:
    async with store.transaction() as tx:
        for name in ("phone", "laptop", "desk"):
            await tx.sign_ins.add(sign_in(name), most=9)
        assert await tx.sign_ins.revoke("id-laptop", RevokeReason.SIGN_OUT, NOW + 1)
        assert not await tx.sign_ins.revoke("id-laptop", RevokeReason.REUSE, NOW + 2)
        assert not await tx.sign_ins.revoke("id-car", RevokeReason.REUSE, NOW + 2)
        assert await tx.sign_ins.rotate(rotation("laptop-0", 1)) is None
        assert await tx.sign_ins.rotate(rotation("desk-0", 1, NOW + HOUR)) is None  # it has expired
        assert await tx.sign_ins.rotate(rotation("car-0", 1)) is None
        laptop = await tx.sign_ins.get("id-laptop")
        assert laptop == replace(sign_in("laptop"), revoked_at=NOW + 1, reason=RevokeReason.SIGN_OUT)
        assert [each.id for each in await tx.sign_ins.of_person("id-ann", NOW)] == ["id-phone", "id-desk"]
        assert await tx.sign_ins.of_person("id-bob", NOW) == []


async def test_all_sign_ins_but_one_are_revoked_without_their_successors(store: AccountStore) -> None:
    async with store.transaction() as tx:
        await tx.persons.add(person("bob"))
        for name in ("phone", "laptop", "desk"):
            await tx.sign_ins.add(sign_in(name), most=9)
        await tx.sign_ins.add(sign_in("car", person="id-bob"), most=9)
        await tx.sign_ins.rotate(rotation("desk-0", 1))
        assert await tx.sign_ins.revoke_all("id-ann", RevokeReason.PASSWORD, NOW + 2, but="id-phone") == 2
        assert await tx.sign_ins.revoke_all("id-ann", RevokeReason.ADMIN, NOW + 3) == 1
        ended = [await tx.sign_ins.get(f"id-{name}") for name in ("phone", "laptop", "desk")]
        assert [(each.reason, each.successor) for each in ended if each] == [
            (RevokeReason.ADMIN, None),
            (RevokeReason.PASSWORD, None),
            (RevokeReason.PASSWORD, None),
        ]
        assert len(await tx.sign_ins.of_person("id-bob", NOW)) == 1
        assert await tx.sign_ins.delete_ended(NOW + 3) == 2
        assert await tx.sign_ins.delete_ended(NOW + HOUR + 1) == 2
        assert await tx.sign_ins.get("id-car") is None


async def test_active_ids_are_those_of_people_that_are_not_disabled(store: AccountStore) -> None:
    async with store.transaction() as tx:
        await tx.persons.add(person("bob", state=PersonState.DISABLED))
        for name, owner in (("phone", "ann"), ("laptop", "ann"), ("car", "bob")):
            await tx.sign_ins.add(sign_in(name, person=f"id-{owner}"), most=9)
            await tx.api_tokens.add(api_token(name, person=f"id-{owner}"), most=9)
        await tx.sign_ins.revoke("id-laptop", RevokeReason.SIGN_OUT, NOW)
        await tx.api_tokens.delete("id-laptop", "id-ann")
        ids = ["id-phone", "id-laptop", "id-car", "unknown"]
        assert await tx.sign_ins.active(ids, NOW) == await tx.api_tokens.active(ids, NOW) == {"id-phone"}
        assert await tx.sign_ins.active(ids, NOW + HOUR) == await tx.api_tokens.active([], NOW) == set()


async def test_too_many_sign_ins_end_the_longest_unused(store: AccountStore) -> None:
    async with store.transaction() as tx:
        for number in range(4):
            name = f"d{number}"
            await tx.sign_ins.add(sign_in(name, created_at=NOW + number, last_used_at=NOW + number), most=3)
            if number == 0:
                await tx.sign_ins.rotate(rotation("d0-0", 1, NOW + 9))
        assert [each.id for each in await tx.sign_ins.of_person("id-ann", NOW)] == ["id-d3", "id-d2", "id-d0"]
        ended = await tx.sign_ins.get("id-d1")
        assert ended
        assert ended.reason is RevokeReason.LIMIT


async def test_person_has_a_number_of_tokens_at_most(store: AccountStore, url: str) -> None:
    async def add(tx: AccountTransaction, number: int) -> bool:
        await tx.persons.lock("id-ann")
        return await tx.api_tokens.add(api_token(str(number)), most=5)

    await run(store, lambda tx: tx.api_tokens.add(api_token("old", expires_at=NOW), most=5))
    assert sorted(await in_parallel(url, 10, add)) == [False] * 5 + [True] * 5
    async with store.transaction() as tx:
        ids = [each.id for each in await tx.api_tokens.of_person("id-ann", NOW)]
        assert (len(ids), ids) == (5, sorted(ids, reverse=True))
        assert await tx.api_tokens.delete(ids[0], "id-ann")
        assert await tx.api_tokens.add(api_token("new"), most=5)


async def test_token_is_found_until_it_expires_or_is_deleted(store: AccountStore) -> None:
    async with store.transaction() as tx:
        await tx.api_tokens.add(api_token(), most=9)
        await tx.api_tokens.mark_used("id-bot", NOW + 5)
        assert await tx.api_tokens.find("hash-bot", NOW) == api_token(last_used_at=NOW + 5)
        assert await tx.api_tokens.find("hash-bot", NOW + HOUR) is await tx.api_tokens.find("hash-", NOW) is None
        assert not await tx.api_tokens.delete("id-bot", "id-bob")
        assert await tx.api_tokens.delete_expired(NOW + HOUR) == 0
        assert await tx.api_tokens.delete_expired(NOW + HOUR + 1) == 1
        assert await tx.api_tokens.find("hash-bot", NOW) is None
