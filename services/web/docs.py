"""`/docs`: the API to try in a browser. All of the page is served here, and finds its parts beside itself: it needs no
network, and no setting for the prefix under which a proxy shows it.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.resources import files

from fastapi.openapi.docs import get_swagger_ui_html

from services.web.app_spec import FastHandler
from services.web.caching import CachedResponse

ASSETS = {"swagger-ui-bundle.js": b"text/javascript", "swagger-ui.css": b"text/css"}
CACHE_SECONDS = 3600


def fronts(title: str) -> Mapping[str, FastHandler]:
    """The page and its parts by their addresses."""
    parts = {f"/docs/{name}": _front(partial(_file, name), kind) for name, kind in ASSETS.items()}
    return {"/docs": _front(partial(_page, title), b"text/html; charset=utf-8"), **parts}


def _front(read: Callable[[], bytes], kind: bytes) -> FastHandler:
    """An answer that is read once, when it is first asked for."""

    @cache
    def kept() -> CachedResponse:
        headers = [
            (b"content-type", kind),
            (b"cache-control", b"public, max-age=%d" % CACHE_SECONDS),
            (b"vary", b"Origin, Accept-Encoding"),
        ]
        return CachedResponse(read(), headers, compress=True)

    return lambda _, headers: kept().response_for(headers)


def _page(title: str) -> bytes:
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=title,
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="data:,",
        swagger_ui_parameters={"validatorUrl": None},
    )
    return bytes(page.body)


def _file(name: str) -> bytes:
    return (files("fastapi_offline") / "static" / name).read_bytes()
