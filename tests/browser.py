"""The system's Chromium, driven by Playwright."""

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
PAGE_TIMEOUT_SECONDS = 120  # on a busy machine


@asynccontextmanager
async def open_page(*flags: str) -> AsyncIterator[Page]:
    """Open an empty page in a new browser. An uncaught error of a script fails the test."""
    chromium = require_installed(lambda: find_program("chromium"))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=[*CHROMIUM_FLAGS, *flags])
        try:
            page = await browser.new_page(viewport={"width": 1000, "height": 520})
            page.set_default_timeout(PAGE_TIMEOUT_SECONDS * 1000)
            errors = list[str]()
            page.on("pageerror", lambda error: errors.append(str(error)))
            yield page
            assert not errors
        finally:
            await browser.close()


async def final_title(page: Page) -> str:
    """Return the page's title once it is no longer `loading`."""
    await page.wait_for_function("document.title !== 'loading'")
    return await page.title()
