"""Candles from files, into files, and proof that nobody changed them: `kurs import`, `kurs export`, `kurs verify`."""

from collections.abc import Callable, Mapping, Sequence

from services.archive import exports, imports, verification
from services.archive.command import Command

COMMANDS: Mapping[str, Callable[[Sequence[str]], Command]] = {
    "import": imports.command,
    "export": exports.command,
    "verify": verification.command,
}

__all__ = ["COMMANDS", "Command"]
