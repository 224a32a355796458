"""Analyses over HTTP: of one series, and of several timeframes of a symbol."""
