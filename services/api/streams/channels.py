"""Channels, their names, and the limits of what a client may subscribe to. Pure, as topics.py is."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.core.accounts.scopes import Scope
from services.core.errors import BadRange, BadRequest
from services.core.journal import RATES_TOPIC
from services.core.model import Series

MAX_CHANNELS = 100  # of one client
MAX_CHANNEL_NAME_LENGTH = 200
MIN_INTERVAL_SECONDS, MAX_INTERVAL_SECONDS = 0.1, 86_400
DEFAULT_RATE_INTERVAL_SECONDS = 60  # of a single rate


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """What a client subscribes to, under the name that it has written.

    With a `key`, it is fed from the entries of that key only. `labels` are the fields by which its WebSocket messages
    differ from those of other channels. One with a `scope` is a person's own: it needs a token, and has no topics.
    """

    name: str
    topics: tuple[str, ...]
    message_type: str
    labels: Mapping[str, str]
    key: str = ""
    default_interval: float = 0  # seconds; 0: each change
    series: Series | None = None
    indicator: str = ""
    scope: Scope | None = None

    @property
    def allows_interval(self) -> bool:
        """Whether a client may choose an interval. Only rates have one: all others are sent at each change."""
        return RATES_TOPIC in self.topics


def check_channel_count(count: int) -> None:
    """Raise BadRequest for more channels than one client may have."""
    if count > MAX_CHANNELS:
        raise BadRequest(f"{count} channels are too many: at most {MAX_CHANNELS}")


def check_interval(seconds: float | None) -> float | None:
    """Return a client's interval; 0: each change; None: each channel's own. Raises BadRange."""
    if seconds and not MIN_INTERVAL_SECONDS <= seconds <= MAX_INTERVAL_SECONDS:
        raise BadRange(
            f"timer: {seconds:g} is neither 0 (each change) nor {MIN_INTERVAL_SECONDS} to "
            f"{MAX_INTERVAL_SECONDS} seconds"
        )
    return seconds


def candle_channel_name(symbol: str, timeframe: str, exchange: str = "") -> str:
    """Return `candles:BTCUSDT:1m`."""
    return ":".join(filter(None, ("candles", exchange, symbol, timeframe)))


def indicator_channel_name(symbol: str, timeframe: str, name: str, exchange: str = "") -> str:
    """Return `indicators:BTCUSDT:1m:sma:20`."""
    return ":".join(filter(None, ("indicators", exchange, symbol, timeframe, name)))
