"""`/docs`: the API to try in a browser. The page and its scripts are served from here: it needs no network.

It finds its parts beside itself, so a proxy may show it under any prefix.
"""

from importlib.resources import files

from fastapi.openapi.docs import get_swagger_ui_html

from services.web.endpoint import Content, Endpoint, Ttl, public
from services.web.query import NoQuery
from services.web.quota_policies import PAGES

CACHE_SECONDS = 3600
CACHE = Ttl(CACHE_SECONDS * 1000, max_entries=1)
PAGE = Endpoint(path="/docs", limit=PAGES, query=NoQuery, cache=CACHE)
SCRIPT = Endpoint(path="/docs/swagger-ui-bundle.js", limit=PAGES, query=NoQuery, cache=CACHE)
STYLE = Endpoint(path="/docs/swagger-ui.css", limit=PAGES, query=NoQuery, cache=CACHE)


class DocsHandler:
    """The page and its parts."""

    def __init__(self, title: str) -> None:
        self._title = title

    @PAGE.handler
    def page(self, _query: NoQuery) -> Content:
        """Return the page."""
        page = get_swagger_ui_html(
            openapi_url="openapi.json",
            title=self._title,
            swagger_js_url="docs/swagger-ui-bundle.js",
            swagger_css_url="docs/swagger-ui.css",
            swagger_favicon_url="data:,",
            swagger_ui_parameters={"validatorUrl": None},
        )
        return Content(bytes(page.body), public(CACHE_SECONDS), media_type=b"text/html; charset=utf-8")

    @SCRIPT.handler
    def script(self, _query: NoQuery) -> Content:
        """Return the script."""
        return _asset("swagger-ui-bundle.js", b"text/javascript")

    @STYLE.handler
    def style(self, _query: NoQuery) -> Content:
        """Return the style sheet."""
        return _asset("swagger-ui.css", b"text/css")


def _asset(name: str, media_type: bytes) -> Content:
    body = (files("fastapi_offline") / "static" / name).read_bytes()
    return Content(body, public(CACHE_SECONDS), media_type=media_type)
