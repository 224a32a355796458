"""Indicators over HTTP: each beside the candles that it is computed from."""
