"""Rates and candles live in a terminal: `kurs watch`."""

from services.watch.command import COMMANDS

__all__ = ["COMMANDS"]
