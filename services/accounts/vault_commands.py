"""`kurs vault`: the master keys that protect what people have entrusted to Kurs."""

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from services.accounts.composition import make_vault
from services.accounts.vault import ResealResult
from services.command import Command
from services.core import times
from services.core.errors import Misconfigured
from services.key_files import MASTER_KEY, Keys, changing_key_file, key_file, load_keys, new_key, write_keys
from services.ports import Deps

MAX_SHOWN_PEOPLE = 10


def command(argv: Sequence[str]) -> Command:
    """Parse the arguments of `kurs vault`. Wrong ones end the program."""
    parser = argparse.ArgumentParser("kurs vault", description="The master keys that protect what people entrusted.")
    actions = parser.add_subparsers(dest="action", metavar="list | rotate | discard ID")
    actions.add_parser("list", help="print one line for each, with the number of data keys that it seals")
    actions.add_parser("rotate", help="seal all data keys with a new master key; also goes on with a rotation")
    discard = actions.add_parser("discard", help="delete the data keys of a lost master key: what they protect is gone")
    discard.add_argument("id", metavar="ID", help="of the lost master key, as `kurs vault list` prints it")
    args = parser.parse_args(argv)
    if args.action == "discard":
        return Command(partial(_discard, args.id))
    return Command(_rotate if args.action == "rotate" else _list)


async def _list(deps: Deps) -> int:
    own = load_keys(deps.settings, MASTER_KEY)
    async with deps.accounts.transaction() as transaction:
        rows, counts = await transaction.keys.master_keys(), await transaction.keys.count_data_keys()
    made = {row.id: times.format_rfc3339(row.created_at) for row in rows}
    for name in dict.fromkeys((*made, *(key.id for key in own))):
        place = "seals" if name == own[0].id else "opens" if name in {key.id for key in own} else "missing"
        since = f"since {made[name]}" if name in made else f"{'not used':26}"
        print(f"{name}  {since}  {place:7}  data keys: {counts.get(name, 0)}")  # noqa: T201
    return 0


async def _rotate(deps: Deps) -> int:
    file = key_file(deps.settings, MASTER_KEY)
    with changing_key_file(file) if file else nullcontext():
        keys = _with_new_key(load_keys(deps.settings, MASTER_KEY), file)
        result = await make_vault(deps).reseal()
        if not result.unopened and file:
            write_keys(file, keys[:1])
    _print_result(result, keys, file)
    return 1 if result.unopened else 0


def _with_new_key(keys: Keys, file: Path | None) -> Keys:
    """Return the master keys with a new one before them. The file has it before anything is sealed with it.

    Several keys are those of a rotation that has begun. Raises Misconfigured where only the operator can begin one.
    """
    if len(keys) > 1:
        print(f"{keys[0].id} replaces {', '.join(key.id for key in keys[1:])}")  # noqa: T201
        return keys
    if file is None:
        raise Misconfigured(
            "KURS_MASTER_KEY has one key: put a new one before it (new,old), restart the accounts, then run this again"
        )
    keys = new_key(), *keys
    write_keys(file, keys)
    print(f"{keys[0].id} replaces {keys[1].id}; {file} has both until the end")  # noqa: T201
    return keys


def _print_result(result: ResealResult, keys: Keys, file: Path | None) -> None:
    print(f"data keys sealed with {keys[0].id}: {result.resealed}")  # noqa: T201
    if result.unopened:
        more = ", …" if len(result.unopened) > MAX_SHOWN_PEOPLE else ""
        people = ", ".join(result.unopened[:MAX_SHOWN_PEOPLE]) + more
        print(f"{len(result.unopened)} cannot be opened by any master key: of {people}. All keys stay")  # noqa: T201
    elif file:
        print(f"{file} has the new key alone: copy it to where its copy is kept")  # noqa: T201
    else:
        former = ", ".join(key.id for key in keys[1:])
        print(f"nothing needs {former} any more: take it out of KURS_MASTER_KEY, then restart the accounts")  # noqa: T201


async def _discard(name: str, deps: Deps) -> int:
    count = await make_vault(deps).discard(name)
    print(f"{count} data keys are deleted; these people have to enter again what they had entrusted")  # noqa: T201
    return 0
