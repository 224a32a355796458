"""State machines of the collector, as tables: the next state for each event and state."""

from itertools import product

import pytest

from services.collector import scan_schedule, socket_session
from services.collector.connection_status import ConnectionEvent, Transport, next_transport
from services.collector.scan_schedule import ScanEvent, ScanState
from services.collector.socket_session import SessionEvent, SessionState

DOWN, POLLING, STREAMING = Transport.DOWN, Transport.POLLING, Transport.STREAMING
UNVERIFIED, COMPLETE, INCOMPLETE = ScanState.UNVERIFIED, ScanState.COMPLETE, ScanState.INCOMPLETE
CONNECTING, UNPROVEN, GOOD = SessionState.CONNECTING, SessionState.UNPROVEN, SessionState.GOOD
RENEWING_UNPROVEN, RENEWING, CLOSED = SessionState.RENEWING_UNPROVEN, SessionState.RENEWING, SessionState.CLOSED

TRANSPORTS = {  # event → state after DOWN, POLLING, STREAMING
    ConnectionEvent.SOCKET_OPENED: (STREAMING, STREAMING, STREAMING),
    ConnectionEvent.SOCKET_FAILED: (DOWN, POLLING, DOWN),
    ConnectionEvent.POLL_SUCCEEDED: (POLLING, POLLING, POLLING),
    ConnectionEvent.REQUEST_FAILED: (DOWN, DOWN, DOWN),
}
SCANS = {  # event → state after UNVERIFIED, COMPLETE, INCOMPLETE
    ScanEvent.FOUND_COMPLETE: (COMPLETE, COMPLETE, COMPLETE),
    ScanEvent.FOUND_INCOMPLETE: (UNVERIFIED, INCOMPLETE, INCOMPLETE),
    ScanEvent.CLOCK_WENT_BACK: (UNVERIFIED, UNVERIFIED, UNVERIFIED),
}
SESSIONS = {  # event → state after CONNECTING, UNPROVEN, GOOD, RENEWING_UNPROVEN, RENEWING, CLOSED
    SessionEvent.OPENED: (UNPROVEN, UNPROVEN, GOOD, RENEWING_UNPROVEN, RENEWING, CLOSED),
    SessionEvent.FIRST_PRICE: (CONNECTING, GOOD, GOOD, RENEWING, RENEWING, CLOSED),
    SessionEvent.RENEW: (CONNECTING, RENEWING_UNPROVEN, RENEWING, RENEWING_UNPROVEN, RENEWING, CLOSED),
    SessionEvent.CLOSED: (CLOSED, CLOSED, CLOSED, CLOSED, CLOSED, CLOSED),
}


@pytest.mark.parametrize(("event", "after"), TRANSPORTS.items(), ids=str)
def test_transport_after_each_event(event: ConnectionEvent, after: tuple[Transport, ...]) -> None:
    assert tuple(next_transport(before, event) for before in Transport) == after


@pytest.mark.parametrize(("event", "after"), SCANS.items(), ids=str)
def test_scan_state_after_each_event(event: ScanEvent, after: tuple[ScanState, ...]) -> None:
    assert tuple(scan_schedule.next_state(before, event) for before in ScanState) == after


@pytest.mark.parametrize(("event", "after"), SESSIONS.items(), ids=str)
def test_session_state_after_each_event(event: SessionEvent, after: tuple[SessionState, ...]) -> None:
    assert tuple(socket_session.next_state(before, event) for before in SessionState) == after


def test_tables_have_every_event() -> None:
    assert set(TRANSPORTS) == set(ConnectionEvent)
    assert set(SCANS) == set(ScanEvent)
    assert set(SESSIONS) == set(SessionEvent)


def test_session_has_a_price_only_while_it_is_open() -> None:
    assert {state for state in SessionState if state.has_price} == {GOOD, RENEWING}
    assert {state for state in SessionState if state.is_open} == set(SessionState) - {CONNECTING, CLOSED}
    for state, event in product(SessionState, SessionEvent):
        after = socket_session.next_state(state, event)
        assert not state.has_price or after.has_price or after is CLOSED
