"""Binance's spot wire: REST under `/api/v3`, streams under `/stream` and `/ws`."""
