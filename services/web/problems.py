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
from services.log import mask_tokens, request_id

PROBLEM_MEDIA_TYPE = "application/problem+json"
QUOTA_EXCEEDED_TYPE = "https://iana.org/assignments/http-problem-types#quota-exceeded"
STATUS_BY_ERROR: dict[type[Exception], HTTPStatus] = {
    errors.BadRequest: HTTPStatus.BAD_REQUEST,
    errors.UnknownName: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.BadRange: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Misdirected: HTTPStatus.MISDIRECTED_REQUEST,
    errors.UpgradeRequired: HTTPStatus.UPGRADE_REQUIRED,
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.MissingScope: HTTPStatus.FORBIDDEN,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.Abandoned: HTTPStatus.REQUEST_TIMEOUT,
    errors.QuotaExceeded: HTTPStatus.TOO_MANY_REQUESTS,
    errors.Overloaded: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.NothingFresh: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}
RETRY_AFTER_SECONDS: dict[type[Exception], int] = {errors.NothingFresh: 1, errors.Unavailable: 2}
NOT_SENT = ("headers", "presented", "retry_after")  # attributes of errors that are no members of problems
MEMBER_NAMES = {"violated_policies": "violated-policies"}  # as draft-ietf-httpapi-ratelimit-headers has it
UPGRADE_HEADERS = ((b"upgrade", b"websocket"), (b"connection", b"upgrade"))
log = logging.getLogger(__name__)


class ProblemDetails(NamedTuple):
    """An error as it is sent, without the request's path and id."""

    status: int
    code: str
    title: str
    detail: str
    extensions: Mapping[str, Any] = {}
    headers: tuple[tuple[bytes, bytes], ...] = ()


RenderedProblem = tuple[int, list[tuple[bytes, bytes]], bytes]


def render_problem(error: Exception, path: str, identifier: str) -> RenderedProblem:
    """Return an error as status, headers and body. The text of an unforeseen error is logged, not sent."""
    return _render(_to_problem(error), path, identifier)


def render_unreadable(status: HTTPStatus, detail: str, identifier: str) -> RenderedProblem:
    """Return status, headers and body for bytes that are not a request, so that they have no path."""
    title = status.phrase
    return _render(ProblemDetails(status, title.lower().replace(" ", "-"), title, detail), "", identifier)


def _to_problem(error: Exception) -> ProblemDetails:
    kind = type(error)
    if kind not in STATUS_BY_ERROR:
        return ProblemDetails(
            500, "internal-error", "Something went wrong in Kurs.", "the log has it under this request_id"
        )
    title = (kind.__doc__ or "").splitlines()[0]
    more = {MEMBER_NAMES.get(name, name): value for name, value in vars(error).items() if name not in NOT_SENT}
    seconds = error.retry_after if isinstance(error, errors.Overloaded) else RETRY_AFTER_SECONDS.get(kind)
    retry = ((b"retry-after", b"%d" % seconds),) if seconds else ()
    headers = UPGRADE_HEADERS if kind is errors.UpgradeRequired else (*retry, *_challenge(error))
    if isinstance(error, errors.KursError):
        headers = (*headers, *error.headers)
    return ProblemDetails(STATUS_BY_ERROR[kind], error_code(error), title, str(error), more, headers)


def _challenge(error: Exception) -> tuple[tuple[bytes, bytes], ...]:
    """Return the header that says which token is needed (RFC 6750, section 3)."""
    if isinstance(error, errors.MissingScope):
        return (
            (
                b"www-authenticate",
                b'Bearer realm="kurs", error="insufficient_scope", scope="%s"' % error.scope.encode(),
            ),
        )
    if isinstance(error, errors.Unauthenticated):
        reason = b', error="invalid_token"' if error.presented else b""
        return ((b"www-authenticate", b'Bearer realm="kurs"' + reason),)
    return ()


def _render(what: ProblemDetails, path: str, identifier: str) -> RenderedProblem:
    kind = QUOTA_EXCEEDED_TYPE if what.code == "quota-exceeded" else f"urn:kurs:problem:{what.code}"
    detail, path = mask_tokens(what.detail), mask_tokens(path)
    body = {"type": kind, "title": what.title, "status": int(what.status), "detail": detail, "instance": path}
    body |= {"code": what.code, "request_id": identifier, **what.extensions}
    text = msgspec.json.encode(body)
    fixed = [(b"content-type", PROBLEM_MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(text))]
    fixed += [(b"cache-control", b"no-store"), (b"vary", b"Origin")]
    return int(what.status), [*fixed, *what.headers], text


def install_error_handlers(app: FastAPI) -> None:
    """Make the app respond with problems to all errors, FastAPI's own 422 and Starlette's 404 and 405 too."""
    for kind in STATUS_BY_ERROR:
        app.add_exception_handler(kind, _handle_error)
    app.add_exception_handler(HTTPException, _handle_http_error)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)
    app.add_exception_handler(Exception, _handle_error)


def _response(request: Request, what: ProblemDetails) -> Response:
    status, headers, body = _render(what, request.url.path, request_id.get())
    return Response(body, status, {name.decode(): value.decode() for name, value in headers})


async def _handle_error(request: Request, error: Exception) -> Response:
    if type(error) not in STATUS_BY_ERROR:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _response(request, _to_problem(error))


async def _handle_http_error(request: Request, error: Exception) -> Response:
    status, detail = getattr(error, "status_code", 500), getattr(error, "detail", "")
    title = HTTPStatus(status).phrase
    if detail == title:
        detail = f"{title}: {request.method} {request.url.path}"
    given: dict[str, str] = dict(getattr(error, "headers", None) or {})
    if given.get("Allow") == "GET":
        given["Allow"] = "GET, HEAD"  # the edge makes HEAD of GET
    headers = tuple((name.lower().encode(), value.encode()) for name, value in given.items())
    return _response(request, ProblemDetails(status, title.lower().replace(" ", "-"), title, detail, {}, headers))


async def _handle_validation_error(request: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    rows = [{"where": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in found]
    detail = "; ".join(f"{row['where']}: {row['message']}" for row in rows)
    return _response(
        request, ProblemDetails(422, "invalid-request", "The request is not valid.", detail, {"errors": rows})
    )


def error_code(error: Exception) -> str:
    """Return the name of an error for programs: `unknown-name`."""
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in type(error).__name__).lstrip("-")
