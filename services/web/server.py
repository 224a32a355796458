"""uvicorn, as Kurs runs it."""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from ssl import SSLContext

import uvicorn

from services.web.connections import MAX_PLAIN_CONNECTIONS
from services.web.http_protocol import FastPathHttpProtocol
from services.web.websocket_protocol import BoundedWebSocketProtocol

SHUTDOWN_SECONDS = 3  # for responses in progress: most take milliseconds
# Longer than clients keep an idle connection. httpx and uvicorn both have 5 s, and where both ends close at the same
# moment, a request is lost on its way.
KEEP_ALIVE_SECONDS = 65
TLS_HANDSHAKE_SECONDS = 10  # before its end no other limit counts a connection
MAX_MESSAGE_BYTES = 64 * 1024  # bytes, of a WebSocket client


def server_config(
    app: object, max_connections: int = MAX_PLAIN_CONNECTIONS, tls: SSLContext | None = None
) -> uvicorn.Config:
    """Return uvicorn's configuration; the benchmarks use it for their peers too."""
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=partial(FastPathHttpProtocol, max_connections=max_connections),  # type: ignore[arg-type]
        ws=BoundedWebSocketProtocol,
        ws_per_message_deflate=False,
        ws_max_size=MAX_MESSAGE_BYTES,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # KURS_TRUSTED_PROXIES decides; uvicorn would trust the loopback
        backlog=4096,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        ssl_context_factory=(lambda _config, _default: tls) if tls else None,
    )


class Server(uvicorn.Server):
    """uvicorn on given sockets, without its signal handlers: ours end the jobs too."""

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Listen, as uvicorn does, but with a limit to TLS handshakes: the event loop's own is 60 s."""
        config, loop = self.config, asyncio.get_running_loop()
        await self.lifespan.startup()
        made = partial(  # type: ignore[call-arg]  # it is a partial of our protocol
            config.http_protocol_class,
            config=config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        limit = TLS_HANDSHAKE_SECONDS if config.ssl else None
        self.servers = [
            await loop.create_server(
                made, sock=each, ssl=config.ssl, ssl_handshake_timeout=limit, backlog=config.backlog
            )
            for each in sockets or ()
        ]
        self.started = True

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Capture none."""
        return nullcontext()
