"""Settings of what is served: the market, its pairs, and the limits of rates."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator
from pydantic_settings import NoDecode

from services.core.model import Instrument
from services.settings.parsing import MAX_SECONDS, AssetMapping, CommaList, split_list


class MarketDataSettings(BaseModel):
    """What is collected, priced and served."""

    market: Literal["auto", "live", "simulated"] = Field(
        "auto",
        description="live: the exchanges; simulated: the simulator; auto: live if reachable (or split), "
        "otherwise simulated",
    )
    exchanges: CommaList = Field(
        ("binance", "deribit", "coingecko"), min_length=1, description="The exchanges, the preferred one first"
    )
    directions: Annotated[tuple[Instrument, ...], NoDecode] = Field(
        tuple(Instrument(base, quote) for base in ("BTC", "ETH", "USDTTRC", "USDTERC") for quote in ("RUB", "USD")),
        min_length=1,
        description="The directions for which rates are served",
    )
    assets: AssetMapping = Field(
        {"USDTTRC": "USDT", "USDTERC": "USDT"}, description="Names in directions that stand for an asset: USDTTRC=USDT"
    )
    symbols: Annotated[tuple[Instrument, ...], NoDecode] = Field(
        (Instrument("BTC", "USDT"), Instrument("ETH", "USDT")),
        description="Pairs collected beside those that the directions need; BTC-USD-PERPETUAL: a contract, of Deribit",
    )
    history_bars: int = Field(
        1000, ge=0, le=100_000, description="Closed candles of each timeframe that are fetched; of 1d all that exist"
    )
    analysis_bars: int = Field(
        1000,
        ge=0,
        le=100_000_000,
        description="Closed candles of each timeframe whose indicators and analysis are kept; 0: all",
    )
    store_indicators: bool = Field(
        True,
        description="Whether indicators of closed candles are saved, for readers of the database; Kurs has no need",
    )
    fresh_seconds: float = Field(
        5, gt=0, le=MAX_SECONDS, description="Maximum age of an exchange's own quote, in seconds"
    )
    reference_seconds: float = Field(
        900, gt=0, le=MAX_SECONDS, description="Maximum age of a currency or peg of the reference, in seconds"
    )
    reference_price_seconds: float = Field(
        120, gt=0, le=MAX_SECONDS, description="Maximum age of the reference's price of any other coin, in seconds"
    )
    steady_seconds: float = Field(
        15, ge=0, le=MAX_SECONDS, description="How long an exchange must be fresh before it is used again, in seconds"
    )
    outlier_bps: float = Field(
        200, gt=0, le=1_000_000, description="Maximum distance of a rate from the others' median, in basis points"
    )
    conflate_ms: int = Field(
        100, ge=0, le=60_000, description="Quotes of one instrument are published at most this often, in ms"
    )

    @field_validator("directions", "symbols", mode="before")
    @classmethod
    def _parse_pairs(cls, value: Any) -> Any:
        return tuple(dict.fromkeys(map(Instrument.parse, split_list(value)))) if isinstance(value, str) else value

    @field_validator("directions")
    @classmethod
    def _reject_contracts(cls, value: tuple[Instrument, ...]) -> tuple[Instrument, ...]:
        if wrong := [direction for direction in value if direction.contract]:
            raise ValueError(f"{wrong[0]} is not a direction: write BASE-QUOTE, for example BTC-USD")
        return value
