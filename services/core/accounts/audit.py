"""The audit log: each action, with its actor and outcome. An entry has a hash over itself and the one before."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from hashlib import sha256

import msgspec
from msgspec import Struct

from services.core.bounds import clean_text

GENESIS = ""  # the digest before the first entry
TRIMMED = "audit_trimmed"  # the action of the entry that says up to which one older entries were deleted
_encode = msgspec.json.Encoder(order="sorted").encode


class Outcome(StrEnum):
    """How an action ended."""

    DONE = "done"
    REFUSED = "refused"


class AuditEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to be logged. `actor` and `subject` are ids of persons; `actor` is `operator` for the command line and
    empty for somebody unknown. `detail` has no secret and nothing that a client chose freely at length.

    A name that does not exist is not logged: people type passwords into the wrong field. Defaults are left out of the
    hash, so a new field with a default keeps the digests of older entries.
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


def next_entry(last: AuditEntry | None, event: AuditEvent, at: int) -> AuditEntry:
    """Return the entry of an event that follows the last one. Its texts are cut and have printable characters only."""
    seq, previous = (last.seq + 1, last.digest) if last else (1, GENESIS)
    event = _cleaned(event)
    return AuditEntry(seq=seq, at=at, event=event, previous=previous, digest=digest(previous, seq, at, event))


def digest(previous: str, seq: int, at: int, event: AuditEvent) -> str:
    """Return the hex SHA-256 of an entry as JSON, with its keys in alphabetical order and without spaces."""
    return sha256(_encode({"previous": previous, "seq": seq, "at": at, "event": event})).hexdigest()


def trimmed(last_deleted: AuditEntry) -> AuditEvent:
    """Return the event that says that this entry and all before it were deleted."""
    return AuditEvent(action=TRIMMED, detail={"seq": str(last_deleted.seq), "digest": last_deleted.digest})


class AuditChain:
    """The check of a log that is read in parts, oldest entries first. `last` is the newest entry of an intact chain."""

    def __init__(self) -> None:
        self.last: AuditEntry | None = None
        self._first: AuditEntry | None = None
        self._starts = {("0", GENESIS)}  # number and digest of what may be missing, with all before it

    def add(self, entries: Iterable[AuditEntry]) -> str:
        """Return what is wrong with the first entry that does not follow from those before, "" if all do."""
        for entry in entries:
            if fault := self._fault(entry):
                return fault
            if entry.event.action == TRIMMED:
                self._starts.add((entry.event.detail.get("seq", ""), entry.event.detail.get("digest", "")))
            self._first, self.last = self._first or entry, entry
        return ""

    def end(self) -> str:
        """Return what is wrong with the beginning of the log, "" if nothing is."""
        if self._first is None or (str(self._first.seq - 1), self._first.previous) in self._starts:
            return ""
        return f"entries before {self._first.seq} are missing, and no later entry says that they were deleted"

    def _fault(self, entry: AuditEntry) -> str:
        if entry.digest != digest(entry.previous, entry.seq, entry.at, entry.event):
            return f"entry {entry.seq} is not as it was written"
        if self.last and entry.seq != self.last.seq + 1:
            return f"between entries {self.last.seq} and {entry.seq} others are missing"
        if self.last and entry.previous != self.last.digest:
            return f"entry {entry.seq} does not follow entry {self.last.seq}: one of the two was written later"
        return ""


def _cleaned(event: AuditEvent) -> AuditEvent:
    texts = {name: clean_text(getattr(event, name)) for name in ("action", "actor", "subject", "address", "agent")}
    detail = {clean_text(name): clean_text(value) for name, value in event.detail.items()}
    return AuditEvent(outcome=event.outcome, detail=detail, **texts)
