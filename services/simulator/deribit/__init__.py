"""Deribit's API: JSON-RPC over a WebSocket and over HTTP."""
