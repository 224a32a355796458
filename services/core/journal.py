"""The entries of the journal: which topic a message has, and what clients get of it.

A topic is an ordered log with one writer: all rates, the active exchange, an exchange's status, a series' candles, one
indicator of them. A client that knows the seq up to which it has read continues without a gap or a repetition.
"""

from collections.abc import Sequence
from decimal import Decimal

import msgspec
from msgspec import Struct, field

from services.core.candles import to_json
from services.core.decimals import format_decimal
from services.core.model import (
    ActiveExchange,
    Candle,
    ExchangeStatus,
    IndicatorValue,
    Position,
    Rate,
    Sequenced,
    Series,
)

MAX_TOPIC_ENTRIES = {"rates": 20_000, "candle": 2_000, "reading": 300}  # of a topic, by the first word of its name
DEFAULT_MAX_TOPIC_ENTRIES = 1_000
JOURNAL_BYTES = 80_000_000  # of all topics together, unless a setting has another value
RATES_TOPIC, ACTIVE_EXCHANGE_TOPIC = "rates", "choice"


class JournalEntry(Struct, frozen=True):
    """One message of a topic. `key` is what it is about within the topic, `data` is its payload, a JSON object.

    `time` is when it was published, by its writer's clock.
    """

    topic: str = field(name="log")
    seq: int = field(name="number")
    prev_seq: int = field(name="previous")
    key: str
    data: str
    time: int


def topic_of(message: Sequenced) -> str:
    """Return the topic of a message."""
    match message:
        case Rate():
            return RATES_TOPIC
        case ActiveExchange():
            return ACTIVE_EXCHANGE_TOPIC
        case ExchangeStatus():
            return status_topic(message.exchange)
        case Candle():
            return candle_topic(message.series)
        case IndicatorValue():
            return indicator_topic(message.series, message.indicator)


def status_topic(exchange: str) -> str:
    """Return the topic of an exchange's status."""
    return f"state:{exchange}"


def candle_topic(series: Series) -> str:
    """Return the topic of a series' candles."""
    return f"candle:{series.exchange}:{series.instrument}:{series.timeframe}"


def indicator_topic(series: Series, indicator: str) -> str:
    """Return the topic of an indicator's values."""
    return f"reading:{series.exchange}:{series.instrument}:{series.timeframe}:{indicator}"


def to_entry(message: Sequenced, position: Position, default_time: int = 0) -> JournalEntry:
    """Return the entry of a message at a position. `default_time` is for a message that was never published."""
    key, data = key_and_payload(message)
    time = message.published if isinstance(message, Candle | IndicatorValue) else message.time
    return JournalEntry(topic_of(message), *position, key, data, time or default_time)


def key_and_payload(message: Sequenced) -> tuple[str, str]:
    """Return an entry's key and payload. A message that does not change them is not published again."""
    match message:
        case Candle():
            return str(message.bar.open_time), to_json(message)
        case IndicatorValue():
            payload = {"timestamp": message.open_time, "values": message.values, "closed": message.closed}
            return str(message.open_time), _encode_json(payload)
        case Rate():
            return str(message.direction), _encode_json(_rate_payload(message))
        case ExchangeStatus():
            return message.exchange, _encode_json(_status_payload(message))
        case ActiveExchange():
            return "", _encode_json(_active_payload(message))


def max_entries(topic: str) -> int:
    """Return how many entries of a topic are retained at most; there may be room for fewer."""
    return MAX_TOPIC_ENTRIES.get(topic.partition(":")[0], DEFAULT_MAX_TOPIC_ENTRIES)


def contiguous_after(entries: Sequence[JournalEntry], seq: int) -> list[JournalEntry] | None:
    """Return what follows `seq` in entries that begin with it, or None when an entry is missing.

    For 0 it is the longest end of the entries that has no gap.
    """
    if seq and (not entries or entries[0].seq != seq):
        return None
    following = list(entries[1:] if seq else entries)
    last = seq
    for index, entry in enumerate(following):
        if last and entry.prev_seq != last:
            return None if seq else contiguous_after(following[index:], 0)
        last = entry.seq
    return following


def _rate_payload(rate: Rate) -> dict[str, object]:
    served = next((c for c in rate.candidates if c.rejected is None and c.value is not None), None)
    if served is None:
        reason = "; ".join(f"{candidate.exchange}: {candidate.rejected}" for candidate in rate.candidates)
        return {"direction": str(rate.direction), "value": None, "exchange": None, "reason": reason}
    return {
        "direction": str(rate.direction),
        "value": _optional_decimal(served.value),
        "bid": _optional_decimal(served.bid),
        "ask": _optional_decimal(served.ask),
        "exchange": served.exchange,
        "simulated": rate.simulated,
    }


def _status_payload(status: ExchangeStatus) -> dict[str, object]:
    names = ("exchange", "connected", "transport", "host", "reason", "since", "simulated")
    return {name: getattr(status, name) for name in names}


def _active_payload(active: ActiveExchange) -> dict[str, object]:
    last = active.switches[-1] if active.switches else None
    return {
        "exchange": active.exchange,
        "previous": last.previous if last else None,
        "reason": last.reason if last else active.reason,
        "since": active.since,
        "failovers": active.failovers,
    }


def _optional_decimal(value: Decimal | None) -> str | None:
    return None if value is None else format_decimal(value)


def _encode_json(payload: dict[str, object]) -> str:
    return msgspec.json.encode(payload).decode()
