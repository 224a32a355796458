"""Indicators: what each computes from candles, and how much history it needs.

numpy and TA-Lib are loaded here, so only what needs indicators imports this.
"""

from services.core.indicators import averages, bands, momentum, price_levels, stops, volumes  # noqa: F401  they fill the catalog
from services.core.indicators.catalog import CATALOG, Indicator, Parameter, PriceLevel, indicator
from services.core.indicators.columns import OhlcvColumns, concat_columns, to_columns
from services.core.indicators.computing import (
    compute,
    compute_levels,
    daily_since,
    future_values,
    lookahead,
    stable_from,
    warmup,
)
from services.core.indicators.spec import IndicatorSpec, parse_specs

FORMULA_REVISION = 2
"""Of the formulas, and of the analysis' rules. A change of what one of them gives raises it, so that no cache serves
what the old one gave, and drops the stored rows in a migration, as `0008` does."""

STANDARD = parse_specs(
    "sma:10,sma:20,sma:50,sma:100,sma:200,ema:12,ema:26,ema:50,ema:100,bbands,ichimoku,rsi,macd,stoch,willr,volume,obv,"
    "vp,sr,fib,pivots,atr,adx,vwap,cci,mfi,supertrend,keltner,donchian,psar,aroon"
)
"""What every series has without being asked."""

__all__ = [
    "CATALOG",
    "FORMULA_REVISION",
    "STANDARD",
    "Indicator",
    "IndicatorSpec",
    "OhlcvColumns",
    "Parameter",
    "PriceLevel",
    "compute",
    "compute_levels",
    "concat_columns",
    "daily_since",
    "future_values",
    "indicator",
    "lookahead",
    "parse_specs",
    "stable_from",
    "to_columns",
    "warmup",
]
