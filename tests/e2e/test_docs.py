"""`/docs` in a real browser that reaches nothing but this machine, under a proxy's prefix."""

from pathlib import Path
from urllib.parse import urlsplit

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from services import api
from services.web import AppSpec, create_app
from tests import browser
from tests.api import CoursesReplica
from tests.simulator import serve_app

PREFIX = "/prices/kurs"
ALONE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


class PrefixProxy:
    """Shows an app under a prefix, as nginx does with `location /prefix/ { proxy_pass http://kurs/; }`."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app, self._prefix = app, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["path"].startswith(f"{self._prefix}/"), "a request past the prefix"
        await self._app({**scope, "path": scope["path"].removeprefix(self._prefix)}, receive, send)


async def test_the_api_can_be_read_and_tried_without_any_network(tmp_path: Path) -> None:
    deps = CoursesReplica().deps
    app = create_app(deps, AppSpec(api.ROUTERS, api.endpoints(deps), api.CHECKS(deps), frozenset()))
    async with serve_app(PrefixProxy(app, PREFIX)) as address, browser.open_page(ALONE) as page:
        asked = set[str]()
        page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
        await page.goto(f"http://{address}{PREFIX}/")
        one = page.locator("#operations-candles-timeframes")
        for button in (".opblock-summary-control", ".try-out__btn", ".execute"):
            await one.locator(button).click()
        assert await one.locator(".live-responses-table tbody .response-col_status").first.inner_text() == "200"
        operations = await page.locator(".opblock").count()
        await page.screenshot(path=tmp_path / "docs.png", full_page=False)
        async with httpx.AsyncClient() as http:
            described = (await http.get(f"http://{address}{PREFIX}/openapi.json")).json()
    assert operations == sum(len(methods) for methods in described["paths"].values())
    assert asked - {""} == {address}
    assert (tmp_path / "docs.png").stat().st_size > 10_000
