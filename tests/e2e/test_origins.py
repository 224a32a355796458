"""Pages of other origins in a real browser: sandboxed frames, and a page whose domain resolves to Kurs."""

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
]).then((results) => top.postMessage(JSON.stringify(results), "*"));
</script>
"""
PARENT_PAGE = "<title>loading</title><script>onmessage = ({ data }) => { document.title = data; };</script>"


async def test_sandboxed_frame_is_accepted_if_null_is_an_allowed_origin() -> None:
    async with serve_replica(cors_allowed_origins=("null",)) as replica:
        tries = html.escape(REQUESTS_PAGE.replace("ADDRESS", replica.address))
        frame = HTMLResponse(f'{PARENT_PAGE}<iframe sandbox="allow-scripts" srcdoc="{tries}"></iframe>')
        async with serve_app(frame) as address, browser.open_page() as page:
            await page.goto(f"http://{address}")
            assert json.loads(await browser.final_title(page)) == [200, "open", "open"]


async def test_page_of_a_domain_that_resolves_to_kurs_reads_nothing() -> None:
    async with (
        serve_replica() as replica,
        browser.open_page("--host-resolver-rules=MAP evil.example 127.0.0.1") as page,
    ):
        address = f"evil.example:{replica.address.rpartition(':')[2]}"
        answer = await page.goto(f"http://{address}/livez")
        assert answer
        assert answer.status == 421
        await page.set_content(PARENT_PAGE + REQUESTS_PAGE.replace("ADDRESS", address))
        assert json.loads(await browser.final_title(page)) == [421, "refused", "refused"]
