"""The peers in Python, served with the settings of Kurs: they respond with the content of a file and do nothing else.

python -m loadtest.asgi bare|fastapi PORT FILE
"""

import asyncio
import gc
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import uvicorn
import uvloop
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from services.web.server import server_config

MAX_CONNECTIONS = 20_000  # more than any measurement opens


def bare(body: bytes) -> ASGIApp:
    """Return a minimal ASGI application. At /unchanged it responds 304."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/unchanged":
            await send({"type": "http.response.start", "status": 304, "headers": [(b"etag", b'"same"')]})
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    return app


def fastapi(body: bytes) -> ASGIApp:
    """Return a FastAPI application with a plain route."""
    app, courses = FastAPI(), msgspec.json.decode(body)

    @app.get("/")
    async def read_courses() -> dict[str, object]:
        return dict(courses)

    return app


APPS: dict[str, Callable[[bytes], ASGIApp]] = {"bare": bare, "fastapi": fastapi}


async def serve(app: ASGIApp, port: int) -> None:
    """Serve on the loopback until a signal. The garbage collector is set as in `services.runtime`."""
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    await uvicorn.Server(server_config(app, MAX_CONNECTIONS)).serve(sockets=[listener])


if __name__ == "__main__":
    name, port, file = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(APPS[name](Path(file).read_bytes()), int(port)))
