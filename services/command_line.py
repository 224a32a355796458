"""The command line: its words name services, exchanges or a command."""

import asyncio
import sys
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from difflib import get_close_matches
from typing import Any

import msgspec
import uvloop

from services import log
from services.bootstrap import migrate, open_adapters
from services.command import Command
from services.core.errors import Misconfigured
from services.core.markets import LIVE
from services.exchanges import EXCHANGES, configured_exchanges, reject_unservable
from services.key_files import prepare_keys
from services.roles import Role
from services.runtime import SERVICES, ProcessSpec, exit_code, import_service, run
from services.settings import Settings, load
from services.web import openapi_document

# The modules with a function `command` that parses its arguments. They are imported when the command runs, because
# with their libraries every process would need a tenth of a second longer to start.
STORE_COMMANDS = {
    "import": "archive.imports",
    "export": "archive.exports",
    "verify": "archive.verification",
    "dead": "archive.dead_letter_commands",
    "keys": "api.accounts.key_commands",
    "persons": "people.commands",
    "vault": "accounts.vault_commands",
    "tasks": "api.accounts.task_commands",
}
CLIENT_COMMANDS = {"watch": "watch.cli"}
OTHER_COMMANDS = ("migrate", "openapi", "passwords")


def main(args: Sequence[str]) -> int:
    """Run the command line's services until a signal, or its command. Return the exit code. Raises Misconfigured."""
    settings = load()
    printing = {*STORE_COMMANDS, *CLIENT_COMMANDS, "openapi"}  # standard output is for their result
    stream = sys.stderr if printing & set(args[:1]) else sys.stdout
    log.setup(settings.log_level, settings.log_levels, settings.secrets, stream)
    if args[:1] == ["passwords"]:
        import_service("passwords").run(args[1:])
        return 0
    if list(args) == ["openapi"]:
        _print_openapi()
        return 0
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_parse(args, settings))


def _parse(args: Sequence[str], settings: Settings) -> Coroutine[Any, Any, int]:
    """Return what to run: a command, or services. Raises Misconfigured."""
    name, words = "".join(args[:1]), args[1:]
    if list(args) == ["migrate"]:
        return _migrate(settings)
    if name in STORE_COMMANDS:
        _require_database(settings, [name])
        return run_command(settings, parse_command(name, words))
    if name in CLIENT_COMMANDS:
        run_client: Coroutine[Any, Any, int] = import_service(CLIENT_COMMANDS[name]).command(words)(settings)
        return run_client
    process = parse_process(args, settings)
    if made := prepare_keys(settings, process.services):
        log.setup(settings.log_level, settings.log_levels, (*settings.secrets, *made), sys.stdout)
    return run(settings, process)


async def _migrate(settings: Settings) -> int:
    await migrate(settings, LIVE if settings.market == "auto" else settings.market)
    return 0


def _print_openapi() -> None:
    api = import_service("api")
    description = openapi_document(api.ROUTERS, api.ENDPOINTS)
    print(msgspec.json.format(msgspec.json.encode(description), indent=2).decode())  # noqa: T201


def parse_command(name: str, words: Sequence[str]) -> Command:
    """Parse the arguments of a command on the stores. Wrong ones end the program."""
    command: Command = import_service(STORE_COMMANDS[name]).command(words)
    return command


def parse_process(args: Sequence[str], settings: Settings) -> ProcessSpec:
    """Return the services and exchanges that the arguments name, all without arguments. Raises Misconfigured."""
    for arg in args:
        if arg not in SERVICES and arg not in EXCHANGES:
            names = [*SERVICES, *EXCHANGES, *STORE_COMMANDS, *CLIENT_COMMANDS, *OTHER_COMMANDS]
            similar = get_close_matches(arg, names, n=1)
            hint = f"did you mean {similar[0]}?" if similar else f"there are: {', '.join(names)}"
            raise Misconfigured(f"there is no service, exchange or command {arg!r}; {hint}")
    configured_exchanges(settings)
    reject_unservable(settings)
    services = tuple(name for name in SERVICES if name in args)
    exchanges = tuple(name for name in EXCHANGES if name in args)
    if exchanges and "collector" not in services:
        raise Misconfigured(f"{exchanges[0]} is an exchange: write kurs collector {exchanges[0]}")
    everything = tuple(name for name in SERVICES if name != "simulator")
    _require_database(settings, services or everything)
    return ProcessSpec(services or everything, exchanges or settings.exchanges)


def _require_database(settings: Settings, names: Sequence[str]) -> None:
    """Raise Misconfigured if a service or command needs a database and none is configured."""
    needing = [name for name in names if name not in ("collector", "simulator")]
    if settings.database_url.get_secret_value().startswith("bus:") and needing:
        raise Misconfigured(f"DATABASE_URL: bus:// is for collectors only, and {needing[0]} needs a database")


async def run_command(settings: Settings, command: Command) -> int:
    """Run a command to its end. Return the exit code. A bus in memory reaches no writer, so one runs here."""
    async with AsyncExitStack() as stack:
        works = command.publishes and settings.in_memory
        market = settings.market if settings.market != "auto" else LIVE if command.publishes else None
        deps = await open_adapters(settings, market, configured_exchanges(settings), stack, owns=works)
        writer = import_service("writer")
        roles = [Role(writer.ROLE, writer.JOBS, deps, writes=True, may_wait=False)] if works else []
        tasks: set[asyncio.Task[Any]] = {asyncio.create_task(role.run(), name=role.name) for role in roles}
        command_task = asyncio.create_task(command.run(deps), name="command")
        done, _ = await asyncio.wait({command_task, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in (command_task, *tasks):
            task.cancel()
        await asyncio.gather(command_task, *tasks, return_exceptions=True)
        return command_task.result() if command_task in done else exit_code(done)
