"""What the world is told of each message, log by log, and whether a run of it is whole.

A log is what one writer says of one thing: all rates, the choice, an exchange's state, a series' candles, an indicator
of them. Whoever knows the number up to which they have read can read on without a hole or a repeat.
"""

from collections.abc import Sequence
from decimal import Decimal

import msgspec
from msgspec import Struct, field

from services.core.candles import to_json
from services.core.decimals import format_decimal as digits
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

MAX_ENTRIES = {
    "rates": 20_000,
    "candle": 2_000,
    "reading": 300,
}  # newest entries of a log at most, by the first word of its name
DEFAULT_MAX_ENTRIES = 1_000
JOURNAL_BYTES = 80_000_000  # that all logs together may take, unless a setting says otherwise
RATES_TOPIC, ACTIVE_EXCHANGE_TOPIC = "rates", "choice"


class JournalEntry(Struct, frozen=True):
    """One message of a log. `key` tells those of one log apart, `data` is a JSON object of what it says.

    `time` is when it was told, in ms, by its writer's clock.
    """

    topic: str = field(name="log")
    seq: int = field(name="number")
    prev_seq: int = field(name="previous")
    key: str
    data: str
    time: int


def topic_of(message: Sequenced) -> str:
    """The log of a message."""
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
    """Where it is told how an exchange stands."""
    return f"state:{exchange}"


def candle_topic(series: Series) -> str:
    """Where a series' candles are told."""
    return f"candle:{series.exchange}:{series.instrument}:{series.timeframe}"


def indicator_topic(series: Series, indicator: str) -> str:
    """Where an indicator's values are told."""
    return f"reading:{series.exchange}:{series.instrument}:{series.timeframe}:{indicator}"


def to_entry(message: Sequenced, position: Position, default_time: int = 0) -> JournalEntry:
    """What the world is told of a message at that place; `otherwise`: the time of one that was never published."""
    key, data = key_and_payload(message)
    time = message.published if isinstance(message, Candle | IndicatorValue) else message.time
    return JournalEntry(topic_of(message), *position, key, data, time or default_time)


def key_and_payload(message: Sequenced) -> tuple[str, str]:
    """Key and data: what does not change them is no news."""
    match message:
        case Candle():
            return str(message.bar.open_time), to_json(message)
        case IndicatorValue():
            said = {"timestamp": message.open_time, "values": message.values, "closed": message.closed}
            return str(message.open_time), _encode_json(said)
        case Rate():
            return str(message.direction), _encode_json(_rate_payload(message))
        case ExchangeStatus():
            return message.exchange, _encode_json(_status_payload(message))
        case ActiveExchange():
            return "", _encode_json(_active_payload(message))


def max_entries(topic: str) -> int:
    """How many entries of a log are kept at most; there may be room for fewer."""
    return MAX_ENTRIES.get(topic.partition(":")[0], DEFAULT_MAX_ENTRIES)


def contiguous_after(entries: Sequence[JournalEntry], seq: int) -> list[JournalEntry] | None:
    """What follows `number` in entries that begin with it; None when something is missing. 0: all that there is."""
    if seq and (not entries or entries[0].seq != seq):
        return None
    following = list(entries[1:] if seq else entries)
    last = seq
    for place, each in enumerate(following):
        if last and each.prev_seq != last:
            return None if seq else contiguous_after(following[place:], 0)
        last = each.seq
    return following


def _rate_payload(rate: Rate) -> dict[str, object]:
    offer = next((offer for offer in rate.candidates if offer.rejected is None and offer.value is not None), None)
    if offer is None:
        reason = "; ".join(f"{each.exchange}: {each.rejected}" for each in rate.candidates)
        return {"direction": str(rate.direction), "value": None, "exchange": None, "reason": reason}
    return {
        "direction": str(rate.direction),
        "value": _optional_decimal(offer.value),
        "bid": _optional_decimal(offer.bid),
        "ask": _optional_decimal(offer.ask),
        "exchange": offer.exchange,
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
    return None if value is None else digits(value)


def _encode_json(said: dict[str, object]) -> str:
    return msgspec.json.encode(said).decode()
