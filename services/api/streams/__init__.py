"""Live streams over WebSocket and SSE, for thousands of clients, resumable at any replica.

`topics` and `client_state` decide what an entry means for a client. They are pure, and tested as tables. `broadcaster`
calls them for each entry of the bus, `catch_up` reads missing entries from the journal, `maintenance` runs once a
second, `composition` connects all of them.
"""
