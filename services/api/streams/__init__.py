"""Live streams: what is told, to thousands of clients at once, over WebSocket and SSE, resumable at any replica."""
