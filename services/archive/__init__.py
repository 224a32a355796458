"""Commands on the store: `kurs import`, `kurs export`, `kurs verify`, `kurs dead`."""

from collections.abc import Callable, Mapping, Sequence

from services.archive import dead_letter_commands, exports, imports, verification
from services.archive.command import Command

COMMANDS: Mapping[str, Callable[[Sequence[str]], Command]] = {
    "import": imports.command,
    "export": exports.command,
    "verify": verification.command,
    "dead": dead_letter_commands.command,
}

__all__ = ["COMMANDS", "Command"]
