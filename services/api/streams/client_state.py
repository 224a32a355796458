"""The states of a stream's client, and the only function that changes them. Pure, as topics.py is."""

from enum import Enum, auto


class ClientState(Enum):
    """What may be sent to a client now."""

    SYNCING = auto()  # it is connected; the snapshots of its first subscription have not been sent
    LIVE = auto()  # entries are sent as the bus brings them
    CATCHING_UP = auto()  # missing entries are read from the journal; those of the bus wait there
    SLOW = auto()  # too many bytes are unread; entries are left out until they have been read
    CLOSED = auto()  # nothing more is sent


class ClientEvent(Enum):
    """What may change a client's state."""

    SUBSCRIBED = auto()  # the snapshots of a subscription have been sent
    ENTRIES_MISSING = auto()
    CAUGHT_UP = auto()
    BUFFER_FULL = auto()
    DRAINED = auto()  # the client has read everything
    DISCONNECTED = auto()  # by either side


_TRANSITIONS = {
    (ClientState.SYNCING, ClientEvent.SUBSCRIBED): ClientState.LIVE,
    (ClientState.LIVE, ClientEvent.ENTRIES_MISSING): ClientState.CATCHING_UP,
    (ClientState.CATCHING_UP, ClientEvent.CAUGHT_UP): ClientState.LIVE,
    (ClientState.LIVE, ClientEvent.BUFFER_FULL): ClientState.SLOW,
    (ClientState.SLOW, ClientEvent.DRAINED): ClientState.CATCHING_UP,
}


def next_state(state: ClientState, event: ClientEvent) -> ClientState:
    """Return the state after an event. An event that means nothing in a state leaves it as it is."""
    if event is ClientEvent.DISCONNECTED:
        return ClientState.CLOSED
    return _TRANSITIONS.get((state, event), state)
