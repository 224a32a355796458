"""What nginx writes to its logs: a ticket in a stream's address is not in them, also when no replica responds."""

from pathlib import Path

import httpx

from tests import nginx
from tests.servers import free_port

TICKET = "kurs_t_0123456789abcdefghijklmnopqrstuvwxyz"


async def test_no_log_of_nginx_has_a_ticket(tmp_path: Path) -> None:
    front = nginx.start_nginx(tmp_path, free_port(), [free_port(), free_port()])
    try:
        async with httpx.AsyncClient(base_url=front.url, timeout=10, trust_env=False) as client:
            for path in ("/v1/stream", "/ws/chart-data", "/v1/stream/"):
                query = {"ticket": TICKET} if path != "/v1/stream/" else {"planted": "1"}
                assert (await client.get(path, params=query)).status_code == 503
            await client.get(f"/v1/api-tokens/{TICKET.replace('_t_', '_p_')}")
    finally:
        front.stop()
    logged = (front.folder / "log").read_text()
    assert '"path":"/v1/stream"' in logged
    assert '"path":"/ws/chart-data"' in logged
    assert "planted=1" in logged, "nginx's own errors have the query elsewhere"
    assert '"path":"(has a token)"' in logged
    assert TICKET not in logged
    assert "ticket" not in logged
