"""The clients of the guide, a page in a real browser and a Python program, while each replica is killed."""

import asyncio
import re
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from playwright.async_api import Page
from starlette.responses import HTMLResponse

from tests import browser
from tests.simulator import serve_app
from tests.system import System

GUIDE = (Path(__file__).parents[3] / "docs/streams.md").read_text()
ORIGIN = "localhost:5173"  # allowed unless set otherwise
CHANNELS = ("candles:BTCUSDT:1m", "btc_usd")
CLIENTS = ("events", "socket", "python")
RECORDER = "const seen = []; console.log = (...words) => seen.push(words);"
MIN_NEW_ENTRIES = 5  # of each channel at each client, before the next replica is killed

ReceivedSeqs = dict[tuple[str, str], list[int]]
"""The received seqs, by client and channel."""


async def test_clients_of_the_guide_miss_nothing_while_replicas_restart(shared: System, tmp_path: Path) -> None:
    async with run_guide_clients(shared, tmp_path / "printed") as (page, printed):
        for name in ("api 1", "api 2"):
            await wait_for_new_entries(page, printed)
            shared.processes[name].kill()
            await asyncio.to_thread(shared.processes[name].start)
        await wait_for_new_entries(page, printed)
        seen = await received_seqs(page, printed)
    assert seen.keys() == set(product(CLIENTS, CHANNELS))
    async with httpx.AsyncClient(base_url=shared.url) as http:
        for (_, channel), (snapshot, *numbers) in seen.items():
            assert numbers == await journal_seqs(http, channel, snapshot, numbers[-1])


@asynccontextmanager
async def run_guide_clients(shared: System, printed: Path) -> AsyncIterator[tuple[Page, Path]]:
    """Run the clients of the guide as they are printed, with another address."""
    guide = GUIDE.replace("localhost:8000", urlsplit(shared.url).netloc)
    scripts = [RECORDER, *re.findall("```js\n(.*?)```", guide, re.DOTALL)]
    html = "".join(f"<script>{script}</script>" for script in scripts)
    (program,) = re.findall("```python\n(.*?)```", guide, re.DOTALL)
    with printed.open("wb") as output:
        python = await asyncio.create_subprocess_exec(sys.executable, "-u", "-c", program, stdout=output)
        try:
            async with (
                serve_app(HTMLResponse(html)) as address,
                browser.open_page(f"--host-resolver-rules=MAP {ORIGIN} {address}") as page,
            ):
                await page.goto(f"http://{ORIGIN}")
                yield page, printed
        finally:
            python.kill()
            await python.wait()


async def received_seqs(page: Page, printed: Path) -> ReceivedSeqs:
    """Return the seqs received until now."""
    seen: ReceivedSeqs = defaultdict(list)
    for first, *rest in await page.evaluate("seen"):
        if rest:
            seen["events", first].append(rest[0]["seq"])
        else:
            seen["socket", first.get("channel", CHANNELS[0])].append(first["seq"])
    for line in printed.read_text().splitlines():
        channel, number, _ = line.split(maxsplit=2)
        seen["python", channel].append(int(number))
    return seen


async def wait_for_new_entries(page: Page, printed: Path) -> None:
    """Wait until each client has more entries of each channel."""
    before = now = await received_seqs(page, printed)
    async with asyncio.timeout(browser.PAGE_TIMEOUT_SECONDS):
        while any(len(now[key]) < len(before[key]) + MIN_NEW_ENTRIES for key in product(CLIENTS, CHANNELS)):
            await asyncio.sleep(0.2)
            now = await received_seqs(page, printed)


async def journal_seqs(http: httpx.AsyncClient, channel: str, after: int, last: int) -> list[int]:
    """Return the seqs of a channel after `after` up to `last`."""
    numbers, cursor = list[int](), str(after)
    while int(cursor) < last:
        answer = await http.get("/v1/stream/history", params={"channels": channel, "after": cursor})
        page = answer.raise_for_status().json()
        assert not page["reset"]
        cursor = page["cursor"]
        numbers += [event["seq"] for event in page["events"]]
    return [number for number in numbers if number <= last]
