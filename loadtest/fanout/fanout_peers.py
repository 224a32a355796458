"""The measured servers: the floor, other common ways, and Kurs."""

import sys
from pathlib import Path

from loadtest.fanout import programs
from loadtest.fanout.runner import FanoutPeer

MESSAGE_BYTES = 200  # bytes of a message
FLOOR, NODE, BROADCAST, QUEUES, KURS = (
    "a C loop of send",
    "node's ws",
    "websockets' broadcast()",
    "a FastAPI route, a queue per client",
    "Kurs",
)
PATH = "/ws/chart-data"
UNLIMITED_CONNECTIONS = {"WEBSOCKET_MAX_CONNECTIONS": "20000", "KURS_STREAM_ADDRESS_CONNECTIONS": "20000"}


def fanout_peers() -> list[FanoutPeer]:
    """All of them. Raises Missing without a C compiler or node."""
    floor, node, script = str(programs.compile_program("floor")), programs.node(), Path(__file__).with_name("ws.mjs")
    return [
        FanoutPeer(FLOOR, lambda port, often: [floor, str(port), str(MESSAGE_BYTES), f"{often:g}"]),
        FanoutPeer(
            NODE, lambda port, often: [node, str(script), *map(str, (programs.FOLDER, port, MESSAGE_BYTES, often))]
        ),
        FanoutPeer(BROADCAST, lambda port, often: _python("python_servers", "broadcast", port, MESSAGE_BYTES, often)),
        FanoutPeer(QUEUES, lambda port, often: _python("python_servers", "queues", port, MESSAGE_BYTES, often)),
        FanoutPeer(
            KURS,
            lambda port, often: _python("kurs_server", port, often),
            path=PATH,
            requests=('{"action":"subscribe","symbol":"BTCUSDT","timeframe":"1m"}',),
            env=UNLIMITED_CONNECTIONS,
        ),
    ]


def _python(module: str, *words: object) -> list[str]:
    return [sys.executable, "-m", f"loadtest.fanout.{module}", *map(str, words)]
