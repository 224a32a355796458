"""Rates and candles live in a terminal: `kurs watch`."""

from services.watch.cli import COMMANDS

__all__ = ["COMMANDS"]
