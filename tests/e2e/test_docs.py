"""`/docs` under a proxy's prefix, in a real browser that reaches only this machine."""

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
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


class PrefixProxy:
    """An app under a prefix, as nginx serves it with `location /prefix/ { proxy_pass http://kurs/; }`."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app, self._prefix = app, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["path"].startswith(f"{self._prefix}/"), "a request without the prefix"
        await self._app({**scope, "path": scope["path"].removeprefix(self._prefix)}, receive, send)


async def test_api_docs_work_without_a_network(tmp_path: Path) -> None:
    deps = CoursesReplica().deps
    app = create_app(deps, AppSpec(api.ROUTERS, api.endpoints(deps), api.CHECKS(deps), frozenset()))
    async with serve_app(PrefixProxy(app, PREFIX)) as address, browser.open_page(OFFLINE) as page:
        hosts = set[str]()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        await page.goto(f"http://{address}{PREFIX}/")
        operation = page.locator("#operations-candles-timeframes")
        for button in (".opblock-summary-control", ".try-out__btn", ".execute"):
            await operation.locator(button).click()
        assert await operation.locator(".live-responses-table tbody .response-col_status").first.inner_text() == "200"
        operations = await page.locator(".opblock").count()
        await page.screenshot(path=tmp_path / "docs.png", full_page=False)
        async with httpx.AsyncClient() as http:
            described = (await http.get(f"http://{address}{PREFIX}/openapi.json")).json()
    assert operations == sum(len(methods) for methods in described["paths"].values())
    assert hosts - {""} == {address}
    assert (tmp_path / "docs.png").stat().st_size > 10_000
