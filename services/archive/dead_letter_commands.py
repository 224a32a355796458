"""`kurs dead`: messages that could not be processed. See docs/dead-letters.md."""

import argparse
from collections.abc import Collection, Sequence
from functools import partial

from services.command import Command
from services.core import times
from services.core.dead_letters import DeadLetter
from services.core.errors import BadRequest, UnknownName
from services.ports import Deps

ACTION_HELP = {
    "list": "print one line for each, oldest first",
    "show": "print all fields of one, with its body",
    "replay": "publish them again, once the cause is fixed",
    "drop": "delete them",
}


def command(argv: Sequence[str]) -> Command:
    """Parse the arguments of `kurs dead`. Wrong ones end the program."""
    parser = argparse.ArgumentParser(
        "kurs dead", description="Messages that could not be processed, and were set aside."
    )
    actions = parser.add_subparsers(dest="action", metavar="list | show ID | replay ID… | drop ID…")
    for name, text in ACTION_HELP.items():
        action = actions.add_parser(name, help=text, description=text)
        if name == "show":
            action.add_argument("ids", nargs=1, metavar="ID")
        elif name != "list":
            action.add_argument("ids", nargs="*", metavar="ID")
            action.add_argument("--all", action="store_true", help="all dead letters")
    args = parser.parse_args(argv)
    run = {"show": _show, "replay": _replay, "drop": _drop}.get(args.action)
    if run is None:
        return Command(_list)
    if args.action != "show" and bool(args.ids) == args.all:
        raise BadRequest(f"kurs dead {args.action}: name one or more IDs, or --all")
    return Command(partial(run, None if getattr(args, "all", False) else args.ids))


async def _list(deps: Deps) -> int:
    letters = await deps.store.dead_letters()
    for letter in letters:
        message = f"{letter.kind or '?'} {letter.symbol}".strip()
        mark = " (to be published again)" if letter.replay else ""
        print(f"{letter.id}  {times.format_rfc3339(letter.time)}  {letter.cause:8}  {message}: {letter.reason}{mark}")  # noqa: T201
    print(f"{len(letters)} dead letters" if len(letters) != 1 else "1 dead letter")  # noqa: T201
    return 0


async def _show(ids: Collection[str] | None, deps: Deps) -> int:
    for letter in await _select(deps, ids):
        for name in ("id", "time", "queue", "kind", "symbol", "cause", "reason", "replay", "body"):
            value = getattr(letter, name)
            print(f"{name:7} {times.format_rfc3339(value) if name == 'time' else value}")  # noqa: T201
    return 0


async def _replay(ids: Collection[str] | None, deps: Deps) -> int:
    letters = await _select(deps, ids)
    await deps.store.request_replay(*(letter.id for letter in letters))
    print(f"{len(letters)} marked: a running writer publishes them again within seconds")  # noqa: T201
    return 0


async def _drop(ids: Collection[str] | None, deps: Deps) -> int:
    letters = await _select(deps, ids)
    await deps.store.drop_dead_letters(*(letter.id for letter in letters))
    print(f"{len(letters)} deleted")  # noqa: T201
    return 0


async def _select(deps: Deps, ids: Collection[str] | None) -> list[DeadLetter]:
    """Return the dead letters of these IDs, all for None. Raises UnknownName."""
    letters = {letter.id: letter for letter in await deps.store.dead_letters()}
    if ids is None:
        return list(letters.values())
    if unknown := [each for each in ids if each not in letters]:
        raise UnknownName(f"there is no dead letter {unknown[0][:40]!r}; kurs dead list prints all IDs")
    return [letters[each] for each in dict.fromkeys(ids)]
