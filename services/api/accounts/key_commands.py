"""`kurs keys`: the keys that sign access tokens."""

import argparse
from collections.abc import Sequence
from functools import partial

from services.api.accounts.composition import compose_accounts
from services.api.accounts.signing_keys import OVERLAP_MS
from services.command import Command
from services.core import times
from services.core.accounts import sealing
from services.core.accounts.model import SigningKey
from services.ports import Deps


def command(argv: Sequence[str]) -> Command:
    """Parse the arguments of `kurs keys`. Wrong ones end the program."""
    parser = argparse.ArgumentParser("kurs keys", description="The keys that sign access tokens.")
    actions = parser.add_subparsers(dest="action", metavar="list | rotate")
    actions.add_parser("list", help="print one line for each, the oldest first")
    rotate = actions.add_parser("rotate", help="sign with a new key; the former one verifies until its tokens expire")
    rotate.add_argument("--at-once", action="store_true", help="the former one may be stolen: its tokens end now")
    args = parser.parse_args(argv)
    return Command(partial(_rotate, args.at_once) if args.action == "rotate" else _list)


async def _list(deps: Deps) -> int:
    async with deps.accounts.transaction() as transaction:
        rows = await transaction.keys.signing_keys()
    for row in rows:
        made, name = times.format_rfc3339(row.created_at), sealing.key_id(row.sealed)
        print(f"{row.kid}  made {made}  token key {name}  {_state(row, deps.clock.now())}")  # noqa: T201
    if not rows:
        print("none yet: the first access token makes one")  # noqa: T201
    return 0


def _state(row: SigningKey, now: int) -> str:
    if row.expires_at is None:
        return "signs"
    return f"verifies until {times.format_rfc3339(row.expires_at)}" if now < row.expires_at else "has expired"


async def _rotate(at_once: bool, deps: Deps) -> int:
    row = await compose_accounts(deps).signing_keys.rotate(at_once)
    former = "no longer verify" if at_once else f"verify for {OVERLAP_MS // 60_000} minutes"
    print(f"{row.kid} signs from now on, in every replica within seconds; former keys {former}")  # noqa: T201
    return 0
