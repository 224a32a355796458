"""The audit log: who did what, from where, with what outcome. Each entry has a hash over itself and the one before."""

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct


class Outcome(StrEnum):
    """How an action ended."""

    DONE = "done"
    REFUSED = "refused"


class AuditEvent(Struct, frozen=True, kw_only=True):
    """What is to be logged. `actor` and `subject` are ids of persons; `actor` is `operator` for the command line and
    empty for somebody unknown. `detail` has no secret and nothing that a client chose freely at length.
    """

    action: str  # sign_in, password_changed, api_token_created …
    outcome: Outcome = Outcome.DONE
    actor: str = ""
    subject: str = ""
    address: str = ""
    agent: str = ""
    detail: Mapping[str, str] = {}


class AuditEntry(Struct, frozen=True, kw_only=True):
    """An event as it is stored: with its number, its time, and its place in the chain."""

    seq: int
    at: int  # ms
    event: AuditEvent
    previous: str  # digest of the entry before
    digest: str
