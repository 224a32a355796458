"""Kurs and the servers it is compared with. All run at once, and one at a time is measured."""

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
        """The request's headers. `*` is any tag, so that the response is 304 for all rates."""
        return ("If-None-Match: *",) * self.unchanged + ("Accept-Encoding: gzip",) * self.packed


STATIC, BARE, FASTAPI = "nginx, static file", "bare ASGI callable", "plain FastAPI route"
DIRECT, OURS_STATIC, THROUGH = "/v1/courses", "Kurs' nginx, static file", "/v1/courses through nginx"


@contextmanager
def run_peers(private: PrivateServers) -> Iterator[list[HttpPeer]]:
    """Run all peers, while rates change, until the block ends."""
    folder = private.folder / "bench"
    folder.mkdir()
    with ExitStack() as stack:
        feeder = module_process(folder, "loadtest.quote_feeder", private.rabbit.url)
        api = kurs_process(folder, "api", RABBITMQ_URL=private.rabbit.url, KURS_DATA_DIR=str(folder / "data"))
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
        static, ours = _nginx(private, folder, int(api.url.rpartition(":")[2]))
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


def module_process(folder: Path, module: str, *args: str, port: int = 0) -> Server:
    """Return a process of a module of this package, which is ready when its port accepts connections."""
    process_folder = folder / f"{module}{port}"
    process_folder.mkdir()
    command = [sys.executable, "-m", module, *args]
    root = str(Path(__file__).parents[1])
    ready = (lambda: is_listening(port)) if port else (lambda: True)
    return Server(module, f"http://127.0.0.1:{port}", process_folder, command, ready=ready, env={"PYTHONPATH": root})


def wait_for_rates(api: Server) -> str:
    """Return the rates as soon as the API has them. Raises RuntimeError when that takes too long."""
    deadline = time.monotonic() + 30
    while (response := httpx.get(f"{api.url}{PATH}")).status_code != 200:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no rates have reached the API: {response.text}")
        time.sleep(0.1)
    return response.text


def _nginx(private: PrivateServers, folder: Path, replica: int) -> tuple[str, str]:
    """Return the URLs of a plain nginx and of the project's own. Both serve the file, the second the replica too."""
    port, ours = free_port(), free_port()
    plain = private.nginx(PLAIN.format(folder=folder, port=port), port)
    file = f"location = /courses.json {{ root {folder}; default_type application/json; }}"
    config = configuration(private.folder / f"nginx{ours}", ours, [replica])
    config = replace_once(config, {"location / {": f"{file}\n\n    location / {{"})
    return plain.url, private.nginx(config, ours).url
