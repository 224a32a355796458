"""`/docs`: the API to try in a browser. All of the page is served here, and finds its parts beside itself: it needs no
network, and no setting for the prefix under which a proxy shows it.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.resources import files

from fastapi.openapi.docs import get_swagger_ui_html

from services.web.app_spec import Front
from services.web.caching import Kept

PARTS = {"swagger-ui-bundle.js": b"text/javascript", "swagger-ui.css": b"text/css"}
SECONDS = 3600


def fronts(title: str) -> Mapping[str, Front]:
    """The page and its parts by their addresses."""
    parts = {f"/docs/{name}": _front(partial(_file, name), kind) for name, kind in PARTS.items()}
    return {"/docs": _front(partial(_page, title), b"text/html; charset=utf-8"), **parts}


def _front(read: Callable[[], bytes], kind: bytes) -> Front:
    """An answer that is read once, when it is first asked for."""

    @cache
    def kept() -> Kept:
        headers = [
            (b"content-type", kind),
            (b"cache-control", b"public, max-age=%d" % SECONDS),
            (b"vary", b"Origin, Accept-Encoding"),
        ]
        return Kept(read(), headers, packs=True)

    return lambda _, headers: kept().answer(headers)


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
