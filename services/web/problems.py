"""Errors as problem+json (RFC 9457): one table from class to status, one renderer."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from services.core import errors
from services.log import request_id

TYPE = "application/problem+json"
QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
STATUS: dict[type[Exception], HTTPStatus] = {
    errors.BadRequest: HTTPStatus.BAD_REQUEST,
    errors.UnknownName: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.BadRange: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Misdirected: HTTPStatus.MISDIRECTED_REQUEST,
    errors.UpgradeRequired: HTTPStatus.UPGRADE_REQUIRED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.Abandoned: HTTPStatus.REQUEST_TIMEOUT,
    errors.QuotaExceeded: HTTPStatus.TOO_MANY_REQUESTS,
    errors.Overloaded: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.NothingFresh: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}
RETRY_SECONDS = {errors.NothingFresh: 1, errors.Unavailable: 2, errors.Overloaded: 1}
UPGRADE = ((b"upgrade", b"websocket"), (b"connection", b"upgrade"))
log = logging.getLogger(__name__)


class Problem(NamedTuple):
    """What went wrong, before it is bound to a request."""

    status: int
    code: str
    title: str
    detail: str
    more: Mapping[str, Any] = {}
    headers: tuple[tuple[bytes, bytes], ...] = ()


Rendered = tuple[int, list[tuple[bytes, bytes]], bytes]


def problem(error: Exception, path: str, identifier: str) -> Rendered:
    """An error as status, headers and body. What is not in the table is a fault of ours: its text stays in the log."""
    return _render(_described(error), path, identifier)


def unreadable(status: HTTPStatus, detail: str, identifier: str) -> Rendered:
    """What is no request, as status, headers and body: it has no path."""
    title = status.phrase
    return _render(Problem(status, title.lower().replace(" ", "-"), title, detail), "", identifier)


def _described(error: Exception) -> Problem:
    kind = type(error)
    if kind not in STATUS:
        return Problem(500, "internal-error", "Something went wrong in Kurs.", "the log has it under this request_id")
    title = (kind.__doc__ or "").splitlines()[0]
    more = {name: value for name, value in vars(error).items() if name != "headers"}
    retry = ((b"retry-after", str(RETRY_SECONDS[kind]).encode()),) if kind in RETRY_SECONDS else ()
    headers = UPGRADE if kind is errors.UpgradeRequired else retry
    return Problem(STATUS[kind], code(error), title, str(error), more, headers)


def _render(what: Problem, path: str, identifier: str) -> Rendered:
    kind = QUOTA_EXCEEDED if what.code == "quota-exceeded" else f"urn:kurs:problem:{what.code}"
    body = {"type": kind, "title": what.title, "status": int(what.status), "detail": what.detail, "instance": path}
    body |= {"code": what.code, "request_id": identifier, **what.more}
    text = msgspec.json.encode(body)
    fixed = [(b"content-type", TYPE.encode()), (b"content-length", b"%d" % len(text))]
    fixed += [(b"cache-control", b"no-store"), (b"vary", b"Origin")]
    return int(what.status), [*fixed, *what.headers], text


def install(app: FastAPI) -> None:
    """Make the app answer all its errors this way, FastAPI's own 422 and Starlette's 404 and 405 too."""
    for kind in STATUS:
        app.add_exception_handler(kind, _kurs)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(Exception, _kurs)


def _response(request: Request, what: Problem) -> Response:
    status, headers, body = _render(what, request.url.path, request_id.get())
    return Response(body, status, {name.decode(): value.decode() for name, value in headers})


async def _kurs(request: Request, error: Exception) -> Response:
    if type(error) not in STATUS:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _response(request, _described(error))


async def _http(request: Request, error: Exception) -> Response:
    status, detail = getattr(error, "status_code", 500), getattr(error, "detail", "")
    title = HTTPStatus(status).phrase
    if detail == title:
        detail = f"{title}: {request.method} {request.url.path}"
    given: dict[str, str] = dict(getattr(error, "headers", None) or {})
    if given.get("Allow") == "GET":
        given["Allow"] = "GET, HEAD"  # the edge makes the one of the other
    headers = tuple((name.lower().encode(), value.encode()) for name, value in given.items())
    return _response(request, Problem(status, title.lower().replace(" ", "-"), title, detail, {}, headers))


async def _validation(request: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    rows = [{"where": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in found]
    detail = "; ".join(f"{row['where']}: {row['message']}" for row in rows)
    return _response(request, Problem(422, "invalid-request", "The request is not valid.", detail, {"errors": rows}))


def code(error: Exception) -> str:
    """The name under which programs know an error: `unknown-name`."""
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in type(error).__name__).lstrip("-")
