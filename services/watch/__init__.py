"""`kurs watch`: rates and candles live in a terminal."""

from services.watch.cli import COMMANDS

__all__ = ["COMMANDS"]
