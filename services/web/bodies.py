"""JSON bodies of requests: their limits, and errors that say what is wrong without repeating a value.

A body has one meaning for every parser: no name twice, no unknown name, no NUL, no text that is not UTF-8.
"""

import json
import re
from collections.abc import Sequence
from difflib import get_close_matches
from enum import Enum
from functools import cache
from http import HTTPStatus
from typing import Any, NoReturn

import msgspec
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from services.core.accounts.secret import Secret
from services.core.errors import Abandoned, BadRequest

MAX_BODY_BYTES = 64 * 1024  # nginx's limit
NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # a database cannot store it
_JSON_TYPES: dict[type, str] = {type(None): "null", list: "array", dict: "object"}
SHOWN_NAME = re.compile(r"[A-Za-z_][\w.-]{0,39}", re.ASCII)
VALIDATION_ERROR = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<where>.*)`)?", re.DOTALL)


async def read_body(request: Request, struct: type[Struct]) -> Struct:
    """Read and parse a request's body. Raises BadRequest, Abandoned, and HTTPException for one of another kind.

    A browser sends JSON to another origin only after a preflight, any form without one.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body must be application/json")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        detail = "the body must not be compressed: send it without Content-Encoding"
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, {"accept-encoding": "identity"})
    return parse_body(await _read(request), struct)


def parse_body(text: bytes, struct: type[Struct]) -> Struct:
    """Parse a JSON body. Raises BadRequest."""
    try:
        fields = json.loads(text.decode(), object_pairs_hook=_object, parse_int=str, parse_constant=_no_number)
        if isinstance(fields, dict):
            _check_names(fields, struct)
        if NUL.search(text):
            raise BadRequest("the body is not accepted: a text contains U+0000")
        body: Struct = _decoder(struct).decode(text)
    except UnicodeDecodeError:
        raise BadRequest("the body is not UTF-8") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    except msgspec.ValidationError as error:
        raise BadRequest(f"the body is not accepted: {_explain(str(error), struct)}") from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    return body


async def _read(request: Request) -> bytes:
    """Read a body up to its maximum length, whatever its headers say."""
    length, parts = 0, list[bytes]()
    try:
        async for part in request.stream():
            length += len(part)
            if length > MAX_BODY_BYTES:
                detail = f"the body is longer than {MAX_BODY_BYTES} bytes"
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
            parts.append(part)
    except ClientDisconnect:
        raise Abandoned("the client has disconnected") from None
    return b"".join(parts)


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRequest(f"the body is not accepted: {_shown(twice, 'a field')} is there twice")
    return fields


def _no_number(name: str) -> NoReturn:
    raise BadRequest(f"the body is not JSON: {name} is not a number")


def _check_names(fields: dict[str, Any], struct: type[Struct]) -> None:
    """Check that a body has only known fields: one that is ignored would be a wish that its client relies on."""
    known = struct.__struct_encode_fields__
    for name in fields:
        if name not in known:
            near = get_close_matches(name[:40], known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise BadRequest(
                f"the body has no field {_shown(name, 'of that name')}; {hint}there are: {', '.join(known)}"
            )


def _shown(name: str, otherwise: str) -> str:
    """Return a field's name for an error. What does not look like one may be a value in the wrong place."""
    return repr(name) if SHOWN_NAME.fullmatch(name) else otherwise


def _explain(error: str, struct: type[Struct]) -> str:
    """Return msgspec's error with the field first and without any value."""
    match = VALIDATION_ERROR.fullmatch(error)
    what, where = (match["what"], match["where"] or "") if match else (error, "")
    if missing := re.fullmatch(r"Object missing required field `(.*)`", what):
        return f"{where}.{missing[1]} is missing".lstrip(".")
    if what.startswith("Invalid "):  # a value of an enum, or a tag
        names = _choices(struct).get(where)
        what = f"there are: {', '.join(names)}" if names else "this value does not exist"
    elif what.startswith("Object contains unknown field"):
        what = "it has a field that does not exist"
    what = what[0].lower() + what[1:].replace("`", "")
    return f"{where}: {what}" if where else what


@cache
def _choices(struct: type[Struct]) -> dict[str, list[str]]:
    """Return the accepted values of the struct's enums, by the names of their fields."""
    kinds = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
    return {name: [str(each.value) for each in kind] for name, kind in kinds.items() if _is_enum(kind)}


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


@cache
def _decoder(struct: type[Struct]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(struct, dec_hook=_decode_secret)


def _decode_secret(kind: type, value: Any) -> Secret:
    if kind is not Secret:
        raise NotImplementedError(f"no field of a body can be a {kind}")
    if not isinstance(value, str):
        raise TypeError(f"expected str, got {_JSON_TYPES.get(type(value), type(value).__name__)}")
    return Secret(value)


def describe_secret(kind: type) -> dict[str, Any]:
    """Return the JSON schema of a secret in a body."""
    if kind is not Secret:
        raise NotImplementedError(f"no field of a body can be a {kind}")
    return {"type": "string", "format": "password", "writeOnly": True}
