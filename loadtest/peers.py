"""Kurs and the peers it is measured beside, all running at once, one of them measured at a time."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.nginx import configuration, replace_once
from tests.servers import PrivateServers, Server, free_port, is_listening
from tests.system import kurs_process

PATH = "/v1/courses"
PLAIN = """worker_processes auto;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    sendfile on;
    open_file_cache max=10;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        root {folder};
        default_type application/json;
    }}
}}
"""


class HttpPeer(NamedTuple):
    """A server and its address. `unchanged`: the request is conditional and the response 304; `packed`: by gzip."""

    name: str
    url: str
    unchanged: bool = False
    packed: bool = False

    @property
    def headers(self) -> tuple[str, ...]:
        """The request's headers. `*` is any tag, so that the response is 304 however rates move."""
        return ("If-None-Match: *",) * self.unchanged + ("Accept-Encoding: gzip",) * self.packed


STATIC, BARE, FASTAPI = "nginx, static file", "bare ASGI callable", "plain FastAPI route"
DIRECT, OURS_STATIC, THROUGH = "/v1/courses", "Kurs' nginx, static file", "/v1/courses through nginx"


@contextmanager
def run_peers(here: PrivateServers) -> Iterator[list[HttpPeer]]:
    """All of them, rates moving, until the block ends."""
    folder = here.folder / "bench"
    folder.mkdir()
    with ExitStack() as stack:
        feeder = module_process(folder, "loadtest.quote_feeder", here.rabbit.url)
        api = kurs_process(folder, "api", RABBITMQ_URL=here.rabbit.url, KURS_DATA_DIR=str(folder / "data"))
        for server in (feeder, api):
            stack.callback(server.stop)
            server.start()
        file = folder / "courses.json"
        file.write_text(wait_for_rates(api))
        pages = [("bare", free_port()), ("fastapi", free_port())]
        for name, port in pages:
            server = module_process(folder, "loadtest.asgi", name, str(port), str(file), port=port)
            stack.callback(server.stop)
            server.start()
        static, ours = _nginx(here, folder, int(api.url.rpartition(":")[2]))
        bare, fastapi = (f"http://127.0.0.1:{port}/" for _, port in pages)
        yield [
            HttpPeer(STATIC, f"{static}/courses.json"),
            HttpPeer(FASTAPI, fastapi),
            HttpPeer(BARE, bare),
            HttpPeer(DIRECT, f"{api.url}{PATH}"),
            HttpPeer(BARE, f"{bare}unchanged", unchanged=True),
            HttpPeer(DIRECT, f"{api.url}{PATH}", unchanged=True),
            HttpPeer(OURS_STATIC, f"{ours}/courses.json"),
            HttpPeer(THROUGH, f"{ours}{PATH}"),
            HttpPeer(OURS_STATIC, f"{ours}/courses.json", unchanged=True),
            HttpPeer(THROUGH, f"{ours}{PATH}", unchanged=True),
        ]


def module_process(folder: Path, module: str, *words: str, port: int = 0) -> Server:
    """A module of ours as a process, ready when its port answers."""
    room = folder / f"{module}{port}"
    room.mkdir()
    line = [sys.executable, "-m", module, *words]
    root = str(Path(__file__).parents[1])
    ready = (lambda: is_listening(port)) if port else (lambda: True)
    return Server(module, f"http://127.0.0.1:{port}", room, line, ready=ready, env={"PYTHONPATH": root})


def wait_for_rates(api: Server) -> str:
    """What the API answers, as soon as rates have reached it. Raises RuntimeError when that takes too long."""
    deadline = time.monotonic() + 30
    while (answer := httpx.get(f"{api.url}{PATH}")).status_code != 200:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no rates have reached the API: {answer.text}")
        time.sleep(0.1)
    return answer.text


def _nginx(here: PrivateServers, folder: Path, replica: int) -> tuple[str, str]:
    """The addresses of a plain nginx and the project's own: both serve the file, the second the replica too."""
    port, ours = free_port(), free_port()
    plain = here.nginx(PLAIN.format(folder=folder, port=port), port)
    file = f"location = /courses.json {{ root {folder}; default_type application/json; }}"
    config = configuration(here.folder / f"nginx{ours}", ours, [replica])
    config = replace_once(config, {"location / {": f"{file}\n\n    location / {{"})
    return plain.url, here.nginx(config, ours).url
