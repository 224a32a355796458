"""A stand-in for a replica of the API, to see what nginx does: `python -m tests.e2e.stub_replica PORT`.

Every response has the number of requests that reached this process. `?status=503` requests that status, with headers
that would allow a careless cache to store the response.
"""

import asyncio
import itertools
import json
import os
import sys
import time

import uvicorn
from starlette.types import Receive, Scope, Send

FRESH = b"public, max-age=1, stale-while-revalidate=5"
count = itertools.count(1)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await echo(receive, send)
    elif scope["path"] == "/v1/stream":
        await stream(send)
    elif scope["path"] == "/slow":
        await asyncio.sleep(2)
        await answer(scope, send)
    elif scope["type"] == "http":
        await answer(scope, send)


async def answer(scope: Scope, send: Send) -> None:
    """Respond with the process, the time, the number of the request, and the request's headers."""
    sent = {name.decode(): value.decode() for name, value in scope["headers"]}
    number, arguments = next(count), scope["query_string"].decode()
    status = int(arguments.removeprefix("status=")) if arguments.startswith("status=") else 200
    body = {"replica": os.getpid(), "number": number, "time": time.time(), "headers": sent, "arguments": arguments}
    body["method"] = scope["method"]
    headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", FRESH),
        (b"etag", b'"%d-%d"' % (os.getpid(), number)),
        (b"access-control-allow-origin", sent.get("origin", "*").encode()),
        (b"ratelimit", b'"courses";r=1;t=1'),
        (b"ratelimit-policy", b'"courses";q=2;w=60'),
        *((b"x-ratelimit-" + name, b"1") for name in (b"limit", b"remaining", b"reset")),
        (b"x-request-id", sent["x-request-id"].encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else json.dumps(body).encode()})


async def stream(send: Send) -> None:
    """Send an event at once, and a comment every two seconds."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": b"data: first\n\n", "more_body": True})
    while True:
        await asyncio.sleep(2)
        await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})


async def echo(receive: Receive, send: Send) -> None:
    while (event := await receive())["type"] != "websocket.disconnect":
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "websocket.send", "text": event["text"]})


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
