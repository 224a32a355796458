"""Errors, by the party that must act. A class's docstring is the title of a problem response."""

from collections.abc import Sequence
from difflib import get_close_matches

MAX_LISTED_NAMES = 40  # in one error
MAX_COMPARED_NAMES = 200  # with a wrong name: a comparison takes a thousand times as long as a look-up


class KursError(Exception):
    """Something went wrong in Kurs."""

    headers: Sequence[tuple[bytes, bytes]] = ()  # more of them for the response, set per error


class Unavailable(KursError):
    """A server that Kurs needs is unavailable."""


class AccessRefused(Unavailable):
    """A server that Kurs needs refuses access, which waiting does not change."""


class DeadLettered(KursError):
    """Messages could not be saved and are dead letters."""


class Misconfigured(KursError):
    """The configuration cannot be used."""


class BadRequest(KursError):
    """The request cannot be understood."""


class UnknownName(KursError):
    """A name in the request does not exist."""


class BadFile(KursError):
    """A file cannot be read."""


class BadRange(KursError):
    """A value is out of its range."""


class NothingFresh(KursError):
    """Nothing fresh enough to serve."""

    last_known: list[dict[str, object]]


class NotFound(KursError):
    """There is nothing at this address."""


class Misdirected(KursError):
    """The request is for another server."""


class UpgradeRequired(KursError):
    """This address is for WebSockets."""


class Unauthenticated(KursError):
    """Valid credentials are needed."""

    def __init__(self, detail: str, *, presented: bool = False) -> None:
        super().__init__(detail)
        self.presented = presented  # whether there was one


class Forbidden(KursError):
    """This is not allowed."""


class MissingScope(Forbidden):
    """The token does not allow this."""

    def __init__(self, scope: str, detail: str) -> None:
        super().__init__(detail)
        self.scope = scope


class Conflict(KursError):
    """The request contradicts what is there."""


class Overloaded(KursError):
    """This replica does as much as it can."""

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after  # seconds


class Abandoned(KursError):
    """The client has closed the connection."""


class QuotaExceeded(KursError):
    """Too many requests."""

    violated_policies: Sequence[str]


def unknown_name(kind: str, name: str, existing: Sequence[str]) -> UnknownName:
    """Return the error for a name that does not exist, with the nearest ones and all that exist."""
    near = get_close_matches(name[:40], _comparable(name, existing), n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    more = f" and {len(existing) - MAX_LISTED_NAMES} more" if len(existing) > MAX_LISTED_NAMES else ""
    return UnknownName(
        f"{kind} {name[:40]!r} does not exist; {hint}there are: {', '.join(existing[:MAX_LISTED_NAMES])}{more}"
    )


def _comparable(name: str, existing: Sequence[str]) -> Sequence[str]:
    """The names to compare with: of many, some that begin with the same letter."""
    if len(existing) <= MAX_COMPARED_NAMES:
        return existing
    return [each for each in existing if each[:1] == name[:1]][:MAX_COMPARED_NAMES]
