"""The parsers of all exchanges on frames with arbitrary values."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core import bounds
from services.core.exchange import (
    MAX_RETRY_AFTER_SECONDS,
    Event,
    ExchangeRefusal,
    InstrumentStatus,
    InvalidValue,
    Reconnect,
    RestResponse,
    SequencedQuote,
    validate_events,
)
from services.core.model import Kline, Trade
from services.core.trading_rules import TradingRules, rules_violation
from services.exchanges import EXCHANGES
from tests.recorded_frames import NOW, RecordedFrame, parse_by_way, recorded_frames

LATEST = NOW + bounds.MAX_EXCHANGE_LEAD_MS
VALUES: Sequence[Any] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, -(2**63), 2**64, 10**30, 10**400, 1e308, 0.1),
    *("", "0", "-1", "1e200000", "-1e200000", "1e-200000", "NaN", "sNaN", "Infinity", "1" * 5_000, "٣", "²", "\0"),
    *("x" * 100_000, "\x1b[2J", "\u202e", "BTCUSDT", "BTC", "closed", "true", [], [[]], {}, [None], {"a": None}),
    *(1_230_767_999_999, 1_634_943_780_001, 4_102_444_800_000, 253_402_300_800_000, -62_135_596_800_001),
)
FRAMES = [(name, row) for name in EXCHANGES for row in recorded_frames(name) if row.events]


def value_paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a frame."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from value_paths(inner, (*path, key))


def with_value(value: Any, path: Sequence[Any], new: Any) -> Any:
    if not path:
        return new
    key, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = with_value(value[key], rest, new)
    return copy


def text_of(event: Event) -> str:
    """Return the parts of an event that may contain text of the exchange."""
    match event:
        case InstrumentStatus() | Reconnect() | ExchangeRefusal():
            return event.reason
        case InvalidValue():
            return f"{event.subject} {event.reason} {event.detail}"
    return ""


@pytest.mark.parametrize(("name", "row"), FRAMES, ids=[f"{name}-{number}" for number, (name, _) in enumerate(FRAMES)])
@settings(max_examples=60)
@given(st.data())
def test_frame_with_any_values_gives_only_events_in_range_or_value_error(
    name: str, row: RecordedFrame, data: st.DataObject
) -> None:
    frame = msgspec.json.decode(row.frame)
    for _ in range(data.draw(st.integers(1, 3), "changes")):
        path = data.draw(st.sampled_from(list(value_paths(frame))), "where")
        frame = with_value(frame, path, data.draw(st.sampled_from(VALUES), "value"))
    text = _encode_json(frame)
    try:
        events = validate_events(parse_by_way(EXCHANGES[name], msgspec.structs.replace(row, frame=text)), LATEST)
    except ValueError:  # the whole frame cannot be understood
        return
    for event in events:
        match event:
            case Trade():
                assert bounds.trade_violation(event, LATEST) is None
            case SequencedQuote():
                assert bounds.quote_violation(event.quote, LATEST) is None
            case Kline():
                assert bounds.kline_violation(event, LATEST) is None
            case TradingRules():
                assert rules_violation(event) is None
        if isinstance(event, Trade | SequencedQuote | Kline):
            message = event.quote if isinstance(event, SequencedQuote) else event
            assert bounds.find_violation(message, NOW) is None, "its consumer would make it a dead letter"
        assert bounds.clean_text(text_of(event)).isprintable()


def _encode_json(frame: Any) -> str:
    """Encode as an exchange may: with numbers of any length."""
    match frame:
        case dict():
            return "{" + ",".join(f"{_encode_json(key)}:{_encode_json(value)}" for key, value in frame.items()) + "}"
        case list():
            return "[" + ",".join(map(_encode_json, frame)) + "]"
        case bool() | None | str() | float():
            return msgspec.json.encode(frame).decode()
    return str(frame)


@pytest.mark.parametrize("name", EXCHANGES)
@given(st.sampled_from(VALUES), st.sampled_from(VALUES))
def test_error_text_of_any_body_is_text(name: str, one: Any, other: Any) -> None:
    error_text = EXCHANGES[name].error_text
    for body in (one, [one], {"error": one}, {"msg": one}, {"error": {"code": one, "message": other}}, {"status": one}):
        assert isinstance(error_text(_encode_json(body).encode()), str)
    assert error_text(b"\xff\xfe") == ""


@pytest.mark.parametrize("name", EXCHANGES)
def test_retry_delay_is_bounded_for_any_header(name: str) -> None:
    for value in ("1e300", "inf", "nan", "-1", "²", "9" * 5_000, "\xb2", ""):
        for header in ("retry-after", "x-mbx-used-weight-1m", "x-ratelimit-reset"):
            for status in (200, 418, 429):
                delay = EXCHANGES[name].retry_delay(RestResponse(status, {header: value}), NOW)
                assert 0 <= delay <= MAX_RETRY_AFTER_SECONDS
