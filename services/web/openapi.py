"""The OpenAPI description that all apps share: errors are problems, in every operation."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, ConfigDict, Field

from services import __version__
from services.web.app_spec import FastHandler
from services.web.caching import CachedResponse
from services.web.problems import PROBLEM_MEDIA_TYPE

API_DESCRIPTION = """Crypto rates that know their age and origin.

`/v1/courses` answers with one exchanger for the whole answer; `/v2/courses` says where each number comes from, how old
it is and what the other exchanges say. Every answer carries `Kurs-Market: live` or `simulated`. Errors are
`application/problem+json`."""

PROBLEM_RESPONSE: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem: 400 or 422 what was asked cannot be understood, 429 too often, 503 nothing fresh",
        "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:kurs:problem:unknown-name",
                "title": "A name in the request does not exist.",
                "status": 422,
                "detail": "direction 'BTC-USDD' does not exist; did you mean BTC-USD? there are: BTC-RUB, BTC-USD",
                "instance": "/v1/courses",
                "code": "unknown-name",
                "request_id": "4f1c0e9b7a52-1",
            }
        }
    )

    type: str
    title: str
    status: int
    detail: str = Field(description="What is wrong, and what to do")
    instance: str
    code: str
    request_id: str


class KursFastAPI(FastAPI):
    """An app whose description knows what a problem looks like."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI description."""
        description = super().openapi()
        schemas = description.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        for name, example in _examples(BaseModel):  # of which FastAPI leaves out what is null
            if "example" in schemas.get(name, ()):
                schemas[name]["example"] = example
        for operation in (each for path in description["paths"].values() for each in path.values()):
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])
        return description


def _examples(kind: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    """The examples of all our models, by name."""
    for model in kind.__subclasses__():
        extra = model.model_config.get("json_schema_extra")
        if model.__module__.startswith("services.") and isinstance(extra, dict) and "example" in extra:
            yield model.__name__, extra["example"]
        yield from _examples(model)


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """What may be left out of a query is not null there: a generated client would send that as a text."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    given: dict[str, Any] = kinds[0]
    return given | {key: value for key, value in schema.items() if key not in ("anyOf", "default")}


def bare_app() -> FastAPI:
    """An app without routes."""
    return KursFastAPI(
        title="Kurs",
        version=__version__,
        description=API_DESCRIPTION,
        servers=[{"url": ".", "description": "this server"}],  # beside this description, wherever a proxy shows it
        redirect_slashes=False,
        responses=PROBLEM_RESPONSE,
        docs_url=None,
        redoc_url=None,
    )


def openapi_handler(app: FastAPI) -> FastHandler:
    """The app's own description of itself, written out once: that takes as long as a thousand other answers."""

    @cache
    def written() -> CachedResponse:
        headers = [
            (b"content-type", b"application/json"),
            (b"cache-control", b"public, max-age=60"),
            (b"vary", b"Origin, Accept-Encoding"),
        ]
        return CachedResponse(msgspec.json.encode(app.openapi()), headers, compress=True)

    return lambda _, headers: written().response_for(headers)


def openapi_document(routers: Sequence[APIRouter]) -> dict[str, Any]:
    """The OpenAPI description of these routers."""
    app = bare_app()
    for routes in routers:
        app.include_router(routes)
    return app.openapi()
