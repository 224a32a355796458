"""The OpenAPI description that all apps share: errors are problems, in every operation."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse
from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from services import __version__
from services.core.errors import NotFound
from services.web.bodies import describe_secret
from services.web.callers import TokenKind
from services.web.endpoint import Content, Endpoint, Operation, Ttl, public
from services.web.problems import PROBLEM_MEDIA_TYPE
from services.web.query import NoQuery, describe
from services.web.quota_policies import PAGES, policy_table

API_DESCRIPTION = f"""Crypto rates that know their age and origin.

`/v1/courses` answers with one exchanger for the whole answer; `/v2/courses` says where each number comes from, how old
it is and what the other exchanges say. Every answer carries `Kurs-Market: live` or `simulated`. Errors are
`application/problem+json`.

**Limits.** Each operation names its policy (`x-quota-policy`). A setting of the operator decides the number; below are
the defaults. Responses carry `RateLimit-Policy`, `RateLimit` and `X-RateLimit-…`. A 304 costs nothing.

{policy_table()}"""

TAGS = (
    "rates",
    "candles",
    "indicators",
    "analysis",
    "streams",
    "accounts",
    "tasks",
    "",
)  # in the order of the description
REFERENCE = "#/components/schemas/{name}"
NOT_MODIFIED = {"description": "The client has the current response already"}
PROBLEMS = {
    HTTPStatus.BAD_REQUEST: "The request cannot be understood",
    HTTPStatus.UNAUTHORIZED: "A token is missing, or the one that was sent is not valid",
    HTTPStatus.FORBIDDEN: "The token does not allow this",
    HTTPStatus.NOT_FOUND: "What the path names does not exist",
    HTTPStatus.CONFLICT: "The request contradicts what is there",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too long",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is not JSON, or it is compressed",
    HTTPStatus.MISDIRECTED_REQUEST: "The request is for another host",
    HTTPStatus.UNPROCESSABLE_ENTITY: "A name does not exist, or a value is out of its range",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many requests: `Retry-After` says when to come back",
    HTTPStatus.SERVICE_UNAVAILABLE: "Nothing is fresh enough, or a server that Kurs needs is unavailable",
}
QUOTA_HEADERS = {
    "Retry-After": {"description": "Seconds until the request may be sent again", "schema": {"type": "integer"}},
    "RateLimit": {"description": 'What is left, and for how long: `"api";r=0;t=41`', "schema": {"type": "string"}},
}
COMMON_PROBLEMS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,  # where no token is needed, a wrong one is refused all the same
    HTTPStatus.MISDIRECTED_REQUEST,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)


# OpenAPI 3.1 lets every security scheme name the scopes that an operation needs.
SECURITY_SCHEMES: dict[TokenKind, tuple[str, dict[str, str]]] = {
    TokenKind.ACCESS: (
        "accessToken",
        {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "Of `POST /v1/sign-in`, valid for ten minutes",
        },
    ),
    TokenKind.API: (
        "apiToken",
        {"type": "http", "scheme": "bearer", "description": "Of `POST /v1/api-tokens`: `kurs_p_…`"},
    ),
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
    """An app whose description contains problems, and the bodies that endpoints accept."""

    bodies: list[type[Struct]]

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI description."""
        description = super().openapi()
        schemas = description.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        description["components"]["securitySchemes"] = dict(SECURITY_SCHEMES.values())
        schemas |= msgspec.json.schema_components(self.bodies, schema_hook=describe_secret, ref_template=REFERENCE)[1]
        for name, example in _examples(BaseModel):  # FastAPI leaves null out of them
            if "example" in schemas.get(name, ()):
                schemas[name]["example"] = example
        description["components"]["responses"] = {_name(status): _problem(text) for status, text in PROBLEMS.items()}
        description["components"]["responses"][_name(HTTPStatus.TOO_MANY_REQUESTS)]["headers"] = QUOTA_HEADERS
        for method, operation in (each for path in description["paths"].values() for each in path.items()):
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])
            for status in sorted(_problems(method, operation)):
                operation["responses"][str(int(status))] = {"$ref": f"#/components/responses/{_name(status)}"}
        return description


def _problems(method: str, operation: Mapping[str, Any]) -> set[HTTPStatus]:
    """Return the statuses of all errors that an operation may respond with, but for those of Kurs itself."""
    parameters, found = operation.get("parameters", ()), set(COMMON_PROBLEMS)
    if parameters or "requestBody" in operation:
        found.add(HTTPStatus.UNPROCESSABLE_ENTITY)
    if any(parameter["in"] == "path" for parameter in parameters):
        found.add(HTTPStatus.NOT_FOUND)
    if "security" in operation or method != "get":
        found.add(HTTPStatus.FORBIDDEN)
    if method != "get":
        found.add(HTTPStatus.CONFLICT)
    if "requestBody" in operation:
        found |= {HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE}
    return found


def _problem(text: str) -> dict[str, Any]:
    schema = {"$ref": REFERENCE.format(name="Problem")}
    return {"description": text, "content": {PROBLEM_MEDIA_TYPE: {"schema": schema}}}


def _name(status: HTTPStatus) -> str:
    return status.phrase.replace(" ", "")


def _examples(kind: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    """Return the examples of all our models, by name."""
    for model in kind.__subclasses__():
        extra = model.model_config.get("json_schema_extra")
        if model.__module__.startswith("services.") and isinstance(extra, dict) and "example" in extra:
            yield model.__name__, extra["example"]
        yield from _examples(model)


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Drop null from the schema of an optional parameter: a generated client would send it as a text."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    given: dict[str, Any] = kinds[0]
    return given | {key: value for key, value in schema.items() if key not in ("anyOf", "default")}


def bare_app() -> KursFastAPI:
    """Return an app without routes."""
    app = KursFastAPI(
        title="Kurs",
        version=__version__,
        description=API_DESCRIPTION,
        servers=[{"url": ".", "description": "this server"}],  # beside this description, wherever a proxy shows it
        redirect_slashes=False,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.bodies = []
    return app


OPENAPI = Endpoint(path="/openapi.json", limit=PAGES, query=NoQuery, cache=Ttl(3_600_000, max_entries=1))


class OpenApiHandler:
    """The app's description of itself. To make it takes as long as a thousand other responses."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    @OPENAPI.handler
    def openapi(self, _query: NoQuery) -> Content:
        """Return the description."""
        return Content(msgspec.json.encode(self._app.openapi()), public(60))


def add_route(app: KursFastAPI, endpoint: Operation[Any], respond: Callable[[Request], Awaitable[Response]]) -> None:
    """Add an endpoint's route, which describes it, and runs it when no cached response is sent from the edge."""
    if endpoint.body and endpoint.operation_id:
        app.bodies.append(endpoint.body)
    for path in endpoint.paths:
        app.add_api_route(
            path,
            respond,
            methods=[endpoint.method],
            status_code=endpoint.status,
            response_model=endpoint.response,
            response_class=Response if endpoint.media else JSONResponse,
            responses=_responses(endpoint),
            summary=endpoint.summary,
            description=endpoint.description or endpoint.summary,  # FastAPI would take a docstring of ours
            operation_id=endpoint.operation_id or None,
            tags=[endpoint.tag],
            include_in_schema=bool(endpoint.operation_id) and path == endpoint.path,
            openapi_extra=_operation(endpoint),
        )


def openapi_document(routers: Sequence[APIRouter], endpoints: Iterable[Operation[Any]]) -> dict[str, Any]:
    """Return the OpenAPI description of these routers and endpoints."""
    app = bare_app()
    for router in routers:
        app.include_router(router)
    for endpoint in sorted(endpoints, key=lambda each: (TAGS.index(each.tag), each.path)):
        add_route(app, endpoint, described_only)
    return app.openapi()


def _responses(endpoint: Operation[Any]) -> dict[int | str, dict[str, Any]]:
    if endpoint.media:
        return {endpoint.status: {"content": dict(endpoint.media), "description": "Events without end"}}
    return {HTTPStatus.NOT_MODIFIED: NOT_MODIFIED} if endpoint.is_public else {}


def _operation(endpoint: Operation[Any]) -> dict[str, Any]:
    """Return what FastAPI does not know of an operation: its parameters, its body and its security."""
    parameters = describe(endpoint.query, endpoint.path)
    extra: dict[str, Any] = {"x-quota-policy": endpoint.policy.name}
    if parameters:
        extra["parameters"] = parameters
    if endpoint.body:
        schema = {"$ref": REFERENCE.format(name=endpoint.body.__name__)}
        extra["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if endpoint.scope:
        extra["security"] = [{SECURITY_SCHEMES[kind][0]: [endpoint.scope]} for kind in endpoint.tokens]
    return extra


async def described_only(request: Request) -> Response:
    """Respond at a route that describes what is served elsewhere."""
    raise NotFound(f"{request.method} {request.url.path} is not served here")
