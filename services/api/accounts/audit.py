"""`GET /v1/audit`: what was done by a person or to them; all of it for an admin."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from msgspec import Meta, Struct, field
from pydantic import BaseModel, Field

from services.api.components import ApiComponents
from services.api.page_cursor import format_cursor, parse_number_cursor
from services.api.schemas import example
from services.core.accounts.audit import AuditEntry, Outcome
from services.core.accounts.scopes import Scope
from services.core.errors import BadRequest, MissingScope
from services.web import Content, Endpoint, RequestContext

END = 2**63 - 1  # after every entry
MAX_ENTRIES = 200


class AuditQuery(Struct, kw_only=True, frozen=True):
    """Which entries, newest first."""

    cursor: Annotated[
        Annotated[int, Meta(extra={"parse": parse_number_cursor})] | None,
        Meta(description="`next` of the page before; without it the newest entries", examples=["NDcxMQ"]),
    ] = None
    limit: Annotated[int, Meta(ge=1, le=MAX_ENTRIES, description="At most so many")] = 50
    person: Annotated[str, Meta(description="The id of a person; of others for an admin only")] = ""
    everyone: Annotated[bool, Meta(description="Entries of all people, for an admin only")] = field(
        name="all", default=False
    )


class Entry(BaseModel):
    """An action of a person, or on one. `actor` is `operator` for the command line, empty for somebody unknown."""

    seq: int
    time: int = Field(description="ms since the epoch")
    action: str
    outcome: Outcome
    actor: str
    subject: str
    address: str = Field(description="Empty where another person acted")
    agent: str = Field(description="Empty where another person acted")
    detail: Mapping[str, str]


class AuditPage(BaseModel):
    """Entries of the audit log, newest first."""

    model_config = example(
        entries=[
            {
                "seq": 4711,
                "time": 1790000000000,
                "action": "sign_in",
                "outcome": "done",
                "actor": "019a8e2b-7c1d-7f00-8000-3a5b1c2d4e6f",
                "subject": "019a8e2b-7c1d-7f00-8000-3a5b1c2d4e6f",
                "address": "203.0.113.7",
                "agent": "curl/8.5.0",
                "detail": {},
            }
        ],
        next="NDcxMQ",
    )

    entries: list[Entry]
    next: str | None = Field(description="The cursor of the next page, null at the end")


AUDIT = Endpoint(
    path="/v1/audit",
    query=AuditQuery,
    response=AuditPage,
    scope=Scope.READ,
    tag="accounts",
    operation_id="audit",
    summary="The audit log",
    description="Your sign-ins, tokens and changes, refused ones too, and what admins did to your account.",
)


class AuditHandler:
    """The audit log."""

    def __init__(self, parts: ApiComponents) -> None:
        self._accounts = parts.deps.accounts

    @AUDIT.handler
    async def audit(self, query: AuditQuery, context: RequestContext) -> Content:
        """Return a page of entries. Raises MissingScope, BadRequest, Unavailable."""
        person = _whose(query, context)
        async with self._accounts.transaction() as tx:
            found = await tx.audit.read(person, query.cursor or END, query.limit + 1)
        page = found[: query.limit]
        more = format_cursor(str(page[-1].seq)) if len(found) > len(page) else None
        sees_all = context.caller is not None and Scope.ADMIN in context.caller.scopes
        return Content(_page(page, more, "" if sees_all else context.person).model_dump_json().encode())


def _whose(query: AuditQuery, context: RequestContext) -> str | None:
    """Return the person whose entries are read, None for everyone's. Raises MissingScope, BadRequest."""
    if query.person and query.everyone:
        raise BadRequest("write either person or all")
    wanted = None if query.everyone else query.person or context.person
    if wanted != context.person and (context.caller is None or Scope.ADMIN not in context.caller.scopes):
        raise MissingScope(Scope.ADMIN, "entries of others need a token that allows `admin`")
    return wanted


def _page(entries: Sequence[AuditEntry], more: str | None, reader: str) -> AuditPage:
    """Return a page for a person, with the addresses of others left out; for an admin `reader` is empty."""
    return AuditPage(entries=[_entry(each, reader) for each in entries], next=more)


def _entry(entry: AuditEntry, reader: str) -> Entry:
    event = entry.event
    hidden = bool(reader and event.actor and event.actor != reader)
    return Entry(
        seq=entry.seq,
        time=entry.at,
        action=event.action,
        outcome=event.outcome,
        actor=event.actor,
        subject=event.subject,
        address="" if hidden else event.address,
        agent="" if hidden else event.agent,
        detail=event.detail,
    )
