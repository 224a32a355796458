"""Deribit's wire: JSON-RPC over a WebSocket and over HTTP."""
