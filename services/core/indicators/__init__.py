"""Indicators over candles: the catalog, the arithmetic, and the lookback of each.

This package loads numpy and TA-Lib, so only processes that compute indicators import it.
"""

from services.core.indicators import averages, bands, momentum, price_levels, stops, volumes  # noqa: F401  they register indicators
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
from services.core.indicators.price_levels import TIMEFRAMES_WITH_DAILY_LEVELS
from services.core.indicators.spec import IndicatorSpec, parse_specs

FORMULA_REVISION = 2
"""Revision of the formulas and of the rules of the analysis. Raise it when one of them gives other values, so that no
cache returns the old ones, and delete the stored rows in a migration, as `0008` does."""

STANDARD = parse_specs(
    "sma:10,sma:20,sma:50,sma:100,sma:200,ema:12,ema:26,ema:50,ema:100,bbands,ichimoku,rsi,macd,stoch,willr,volume,obv,"
    "vp,sr,fib,pivots,atr,adx,vwap,cci,mfi,supertrend,keltner,donchian,psar,aroon"
)
"""Computed for each series without a request."""

__all__ = [
    "CATALOG",
    "FORMULA_REVISION",
    "STANDARD",
    "TIMEFRAMES_WITH_DAILY_LEVELS",
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
