"""Binance's spot API: REST under `/api/v3`, streams under `/stream` and `/ws`."""
