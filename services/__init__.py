"""Kurs: crypto rates that know their age and origin."""

__version__ = "0.2.0"
