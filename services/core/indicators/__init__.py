"""Indicators: what each computes from candles, and how much history it needs.

numpy and TA-Lib are loaded here, so only what needs indicators imports this.
"""

from services.core.indicators import averages, bands, momentum, price_levels, stops, volumes  # noqa: F401  they fill the catalog
from services.core.indicators.catalog import CATALOG, Indicator, Level, Parameter, indicator
from services.core.indicators.columns import Columns, columns, joined
from services.core.indicators.computing import ahead, compute, daily_since, future, levels, settled, warmup
from services.core.indicators.spec import Asked, parse

REVISION = 2
"""Of the formulas, and of the analysis' rules. A change of what one of them gives raises it, so that no cache serves
what the old one gave, and drops the stored rows in a migration, as `0008` does."""

STANDARD = parse(
    "sma:10,sma:20,sma:50,sma:100,sma:200,ema:12,ema:26,ema:50,ema:100,bbands,ichimoku,rsi,macd,stoch,willr,volume,obv,"
    "vp,sr,fib,pivots,atr,adx,vwap,cci,mfi,supertrend,keltner,donchian,psar,aroon"
)
"""What every series has without being asked."""

__all__ = [
    "CATALOG",
    "REVISION",
    "STANDARD",
    "Asked",
    "Columns",
    "Indicator",
    "Level",
    "Parameter",
    "ahead",
    "columns",
    "compute",
    "daily_since",
    "future",
    "indicator",
    "joined",
    "levels",
    "parse",
    "settled",
    "warmup",
]
