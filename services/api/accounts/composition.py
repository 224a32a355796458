"""What the endpoints of people share."""

from typing import NamedTuple

from services.api.accounts.stream_tickets import StreamTickets
from services.ports import Deps


class Accounts(NamedTuple):
    """One object of each kind in a process."""

    tickets: StreamTickets


def compose_accounts(deps: Deps) -> Accounts:
    """Return the objects of one process."""
    return Accounts(StreamTickets(deps.cache))
