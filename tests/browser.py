"""A real browser: the system's own Chromium, driven through Playwright."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Page, async_playwright

from tests.conftest import require_installed
from tests.servers import find_program

CHROMIUM_FLAGS = [
    "--no-sandbox",  # which root may not use, nor a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGE_TIMEOUT_SECONDS = 120  # with a page, on a busy machine


@asynccontextmanager
async def open_page(*flags: str) -> AsyncIterator[Page]:
    """An empty page in a browser of its own. What a script on it does not catch fails the test."""
    chromium = require_installed(lambda: find_program("chromium"))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=[*CHROMIUM_FLAGS, *flags])
        try:
            shown = await browser.new_page(viewport={"width": 1000, "height": 520})
            shown.set_default_timeout(PAGE_TIMEOUT_SECONDS * 1000)
            errors = list[str]()
            shown.on("pageerror", lambda error: errors.append(str(error)))
            yield shown
            assert not errors
        finally:
            await browser.close()


async def final_title(shown: Page) -> str:
    """What the page has to say in the end: its title, once that is no longer `loading`."""
    await shown.wait_for_function("document.title !== 'loading'")
    return await shown.title()
