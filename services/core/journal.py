"""What the world is told of each message, log by log, and whether a run of it is whole.

A log is what one writer says of one thing: all rates, the choice, an exchange's state, a series' candles, an indicator
of them. Whoever knows the number up to which they have read can read on without a hole or a repeat.
"""

from collections.abc import Sequence
from decimal import Decimal

import msgspec
from msgspec import Struct

from services.core.candles import row
from services.core.decimals import number as digits
from services.core.model import Candle, Choice, Place, Placed, Rate, Reading, Series, State

KEPT = {
    "rates": 20_000,
    "candle": 2_000,
    "reading": 300,
}  # newest entries of a log at most, by the first word of its name
OTHERS = 1_000
JOURNAL_BYTES = 80_000_000  # that all logs together may take, unless a setting says otherwise
RATES, CHOICE = "rates", "choice"


class Entry(Struct, frozen=True):
    """One message of a log. `key` tells those of one log apart, `data` is a JSON object of what it says.

    `time` is when it was told, in ms, by its writer's clock.
    """

    log: str
    number: int
    previous: int
    key: str
    data: str
    time: int


def log_of(message: Placed) -> str:
    """The log of a message."""
    match message:
        case Rate():
            return RATES
        case Choice():
            return CHOICE
        case State():
            return state_log(message.exchange)
        case Candle():
            return candle_log(message.series)
        case Reading():
            return reading_log(message.series, message.indicator)


def state_log(exchange: str) -> str:
    """Where it is told how an exchange stands."""
    return f"state:{exchange}"


def candle_log(series: Series) -> str:
    """Where a series' candles are told."""
    return f"candle:{series.exchange}:{series.instrument}:{series.timeframe}"


def reading_log(series: Series, indicator: str) -> str:
    """Where an indicator's values are told."""
    return f"reading:{series.exchange}:{series.instrument}:{series.timeframe}:{indicator}"


def entered(message: Placed, place: Place, otherwise: int = 0) -> Entry:
    """What the world is told of a message at that place; `otherwise`: the time of one that was never published."""
    key, data = told(message)
    time = message.published if isinstance(message, Candle | Reading) else message.time
    return Entry(log_of(message), *place, key, data, time or otherwise)


def told(message: Placed) -> tuple[str, str]:
    """Key and data: what does not change them is no news."""
    match message:
        case Candle():
            return str(message.bar.timestamp), row(message)
        case Reading():
            said = {"timestamp": message.timestamp, "values": message.values, "closed": message.closed}
            return str(message.timestamp), _json(said)
        case Rate():
            return str(message.direction), _json(_rate(message))
        case State():
            return message.exchange, _json(_state(message))
        case Choice():
            return "", _json(_choice(message))


def kept(log: str) -> int:
    """How many entries of a log are kept at most; there may be room for fewer."""
    return KEPT.get(log.partition(":")[0], OTHERS)


def continued(entries: Sequence[Entry], number: int) -> list[Entry] | None:
    """What follows `number` in entries that begin with it; None when something is missing. 0: all that there is."""
    if number and (not entries or entries[0].number != number):
        return None
    following = list(entries[1:] if number else entries)
    last = number
    for place, each in enumerate(following):
        if last and each.previous != last:
            return None if number else continued(following[place:], 0)
        last = each.number
    return following


def _rate(rate: Rate) -> dict[str, object]:
    offer = next((offer for offer in rate.offers if offer.aside is None and offer.value is not None), None)
    if offer is None:
        reason = "; ".join(f"{each.exchange}: {each.aside}" for each in rate.offers)
        return {"direction": str(rate.direction), "value": None, "exchange": None, "reason": reason}
    return {
        "direction": str(rate.direction),
        "value": _text(offer.value),
        "bid": _text(offer.bid),
        "ask": _text(offer.ask),
        "exchange": offer.exchange,
        "simulated": rate.simulated,
    }


def _state(state: State) -> dict[str, object]:
    names = ("exchange", "connected", "transport", "host", "reason", "since", "simulated")
    return {name: getattr(state, name) for name in names}


def _choice(choice: Choice) -> dict[str, object]:
    last = choice.recent[-1] if choice.recent else None
    return {
        "exchange": choice.exchange,
        "previous": last.previous if last else None,
        "reason": last.reason if last else choice.reason,
        "since": choice.since,
        "failovers": choice.failovers,
    }


def _text(value: Decimal | None) -> str | None:
    return None if value is None else digits(value)


def _json(said: dict[str, object]) -> str:
    return msgspec.json.encode(said).decode()
