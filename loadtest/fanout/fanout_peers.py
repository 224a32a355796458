"""The measured servers: a minimal one in C, common libraries, and Kurs."""

import sys
from pathlib import Path

from loadtest.fanout import programs
from loadtest.fanout.runner import FanoutPeer
from tests.system import SPLIT_KEYS

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
    """Return all servers. Raises NotInstalled without a C compiler or node."""
    floor, node, script = str(programs.compile_program("floor")), programs.node(), Path(__file__).with_name("ws.mjs")
    return [
        FanoutPeer(FLOOR, lambda port, rate: [floor, str(port), str(MESSAGE_BYTES), f"{rate:g}"]),
        FanoutPeer(
            NODE, lambda port, rate: [node, str(script), *map(str, (programs.FOLDER, port, MESSAGE_BYTES, rate))]
        ),
        FanoutPeer(BROADCAST, lambda port, rate: _python("python_servers", "broadcast", port, MESSAGE_BYTES, rate)),
        FanoutPeer(QUEUES, lambda port, rate: _python("python_servers", "queues", port, MESSAGE_BYTES, rate)),
        FanoutPeer(
            KURS,
            lambda port, rate: _python("kurs_server", port, rate),
            path=PATH,
            requests=('{"action":"subscribe","symbol":"BTCUSDT","timeframe":"1m"}',),
            env=UNLIMITED_CONNECTIONS | SPLIT_KEYS["api"],
        ),
    ]


def _python(module: str, *args: object) -> list[str]:
    return [sys.executable, "-m", f"loadtest.fanout.{module}", *map(str, args)]
