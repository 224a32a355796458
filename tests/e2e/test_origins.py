"""What a real browser lets pages do with Kurs: frames without a name of their own, and pages whose name leads here."""

import html
import json

from starlette.responses import HTMLResponse

from tests import browser
from tests.api import serve_replica
from tests.simulator import serve_app

REQUESTS_PAGE = """
<script>
const url = "http://ADDRESS";
const opened = (kind, path) => new Promise((resolve) => {
  const source = new kind(path);
  source.onopen = () => { source.close(); resolve("open"); };
  source.onerror = () => resolve("refused");
});
Promise.all([
  fetch(`${url}/v1/timeframes`).then((answer) => answer.status, () => "refused"),
  opened(EventSource, `${url}/v1/stream?channels=btc_usd`),
  opened(WebSocket, `${url.replace("http", "ws")}/ws/chart-data`),
]).then((told) => top.postMessage(JSON.stringify(told), "*"));
</script>
"""
PARENT_PAGE = "<title>loading</title><script>onmessage = ({ data }) => { document.title = data; };</script>"


async def test_frames_without_a_name_are_let_in_where_null_is_allowed() -> None:
    async with serve_replica(cors_allowed_origins=("null",)) as here:
        tries = html.escape(REQUESTS_PAGE.replace("ADDRESS", here.address))
        frame = HTMLResponse(f'{PARENT_PAGE}<iframe sandbox="allow-scripts" srcdoc="{tries}"></iframe>')
        async with serve_app(frame) as address, browser.open_page() as page:
            await page.goto(f"http://{address}")
            assert json.loads(await browser.final_title(page)) == [200, "open", "open"]


async def test_a_page_whose_name_was_led_here_can_read_nothing() -> None:
    async with serve_replica() as here, browser.open_page("--host-resolver-rules=MAP evil.example 127.0.0.1") as page:
        address = f"evil.example:{here.address.rpartition(':')[2]}"
        answer = await page.goto(f"http://{address}/livez")
        assert answer
        assert answer.status == 421
        await page.set_content(PARENT_PAGE + REQUESTS_PAGE.replace("ADDRESS", address))
        assert json.loads(await browser.final_title(page)) == [421, "refused", "refused"]
