"""Indicators over HTTP, beside the candles that they are computed from."""
