"""Commands on the store: `kurs import`, `kurs export`, `kurs verify`, `kurs dead`."""

from services.archive import dead_letter_commands, exports, imports, verification
from services.command import Commands

COMMANDS: Commands = {
    "import": imports.command,
    "export": exports.command,
    "verify": verification.command,
    "dead": dead_letter_commands.command,
}

__all__ = ["COMMANDS"]
