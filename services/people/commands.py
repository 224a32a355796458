"""`kurs persons`: add, list, disable, enable, reset and invite people. See docs/accounts.md."""

import argparse
import getpass
import secrets
import sys
from collections.abc import Sequence
from functools import partial

from services.account_changes import (
    INVITATION_SECONDS,
    Origin,
    invite,
    new_invitation,
    new_person,
    register,
    replace_password,
    set_state,
)
from services.account_ports import AccountTransaction
from services.command import Command
from services.core import times
from services.core.accounts.credentials import check_new_password, normalize_name
from services.core.accounts.model import Person, PersonState
from services.core.accounts.passwords import SALT_BYTES, hash_password
from services.core.accounts.scopes import PersonRole
from services.core.errors import BadRequest, UnknownName
from services.ports import Deps

PAGE = 1000
ACTIONS = {
    "add": "add a person; the password is typed, or is the first line of standard input",
    "list": "print one line for each person",
    "disable": "end a person's sign-ins, and refuse new ones and all tokens",
    "enable": "let a disabled person sign in again",
    "reset": "give a person another password, and end all sign-ins",
    "invite": "print a code with which somebody registers, once, within a day",
}


def command(argv: Sequence[str]) -> Command:
    """Parse the arguments of `kurs persons`, and read the password that they need. Wrong ones end the program.

    A password is no argument: every user of a machine sees the arguments of all processes.
    """
    parser = argparse.ArgumentParser("kurs persons", description="People, their passwords and invitations.")
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="add NAME | list | disable NAME | enable NAME | reset NAME | invite"
    )
    for action, text in ACTIONS.items():
        sub = actions.add_parser(action, help=text, description=text)
        if action not in ("list", "invite"):
            sub.add_argument("name", metavar="NAME")
        if action in ("add", "invite"):
            sub.add_argument("--admin", action="store_true", help="as an admin")
    args = parser.parse_args(argv)
    role = PersonRole.ADMIN if getattr(args, "admin", False) else PersonRole.TRADER
    match args.action:
        case "list":
            return Command(_list)
        case "invite":
            return Command(partial(_invite, role))
        case "add":
            name = normalize_name(args.name)
            return Command(partial(_add, name, role, _read_password(name)))
        case "reset":
            name = normalize_name(args.name)
            return Command(partial(_reset, name, _read_password(name)))
    state = PersonState.ACTIVE if args.action == "enable" else PersonState.DISABLED
    return Command(partial(_set_state, normalize_name(args.name), state))


def _read_password(name: str) -> str:
    """Return the hash of a new password. Raises BadRequest, BadRange."""
    if sys.stdin.isatty():
        typed = getpass.getpass(f"New password of {name}: ")
        if getpass.getpass("Once more: ") != typed:
            raise BadRequest("the two passwords differ: nothing was changed")
    else:
        typed = sys.stdin.readline().rstrip("\r\n")
    return hash_password(check_new_password(typed, name), secrets.token_bytes(SALT_BYTES))


async def _add(name: str, role: PersonRole, password_hash: str, deps: Deps) -> int:
    origin = Origin(deps.clock.now())
    async with deps.accounts.transaction() as tx:
        await register(tx, new_person(name, password_hash, role, origin.at), origin)
    print(f"added {name}, {role}")  # noqa: T201
    return 0


async def _list(deps: Deps) -> int:
    after, count = "", 0
    while True:
        async with deps.accounts.transaction() as tx:
            page = await tx.persons.page(after, PAGE)
        for each in page:
            registered = times.format_rfc3339(each.created_at)
            print(f"{registered}  {each.role:6}  {each.state:8}  {each.name}  {each.id}")  # noqa: T201
        count += len(page)
        if len(page) < PAGE:
            break
        after = page[-1].id
    print("1 person" if count == 1 else f"{count} persons")  # noqa: T201
    return 0


async def _set_state(name: str, state: PersonState, deps: Deps) -> int:
    async with deps.accounts.transaction() as tx:
        person = await _named(tx, name)
        await set_state(tx, person.id, state, Origin(deps.clock.now()))
    print(f"{name} is {state}" + ("; replicas refuse all tokens within 5 s" if state is PersonState.DISABLED else ""))  # noqa: T201
    return 0


async def _reset(name: str, password_hash: str, deps: Deps) -> int:
    async with deps.accounts.transaction() as tx:
        person = await _named(tx, name)
        await replace_password(tx, person.id, password_hash, Origin(deps.clock.now()))
    print(f"{name} has another password, and is signed out everywhere; API tokens stay valid")  # noqa: T201
    return 0


async def _invite(role: PersonRole, deps: Deps) -> int:
    origin = Origin(deps.clock.now())
    code, invitation = new_invitation(role, origin.at + INVITATION_SECONDS * 1000, origin)
    async with deps.accounts.transaction() as tx:
        await invite(tx, invitation, origin)
    print(code)  # noqa: T201
    return 0


async def _named(tx: AccountTransaction, name: str) -> Person:
    """Return a person. Raises UnknownName."""
    person = await tx.persons.named(name)
    if person is None:
        raise UnknownName(f"there is no person {name}; kurs persons list prints all")
    return person
