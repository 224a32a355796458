"""Every indicator compared with two libraries that share no code: TA-Lib in C and pandas-ta-classic in Python.

Each is called alone. Where one of them computes something else, the table says what, and which reference is used
instead.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from services.core.indicators import OhlcvColumns, compute
from services.core.timeframes import DAY_MS
from tests import indicator_references as reference
from tests.indicator_references import M1, SERIES, almost_equal, parse_spec, random_walk

talib: Any = pytest.importorskip("talib")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    ta: Any = pytest.importorskip("pandas_ta_classic")

Floats = NDArray[np.float64]
Compute = Callable[[OhlcvColumns], list[Floats]]
pandas_ta = reference.pandas_ta
HLC, HL = ("high", "low", "close"), ("high", "low")
WARM_UP_CANDLES = 1500  # then the first values of a library have no weight any more


def ta_lib(name: str, inputs: tuple[str, ...], *parameters: float, order: tuple[int, ...] = (0,)) -> Compute:
    """Return the outputs of TA-Lib in the order of Kurs."""

    def run(market: OhlcvColumns) -> list[Floats]:
        found = getattr(talib, name)(*(getattr(market, each) for each in inputs), *parameters)
        outputs = found if isinstance(found, tuple) else (found,)
        return [outputs[place] for place in order]

    return run


class LibraryReferences(NamedTuple):
    """One indicator by both libraries. None: the library computes something else, as `why_none` explains."""

    ta_lib: Compute | None
    pandas_ta: Compute | None
    why_none: str = ""


def keltner(market: OhlcvColumns) -> list[Floats]:
    middle, reach = talib.EMA(market.close, 20), 2 * talib.ATR(market.high, market.low, market.close, 10)
    return [middle + reach, middle, middle - reach]


def ichimoku(market: OhlcvColumns) -> list[Floats]:
    """Compute the middles by TA-Lib and shift them here."""
    short, middle, long = (talib.MIDPRICE(market.high, market.low, period) for period in (9, 26, 52))
    none = np.full(25, np.nan)
    spans = [np.r_[none, span[:-25]] for span in ((short + middle) / 2, long)]
    return [short, middle, *spans, np.r_[market.close[25:], none]]


def pandas_ichimoku(market: OhlcvColumns) -> list[Floats]:
    """Correct the shift: pandas-ta shifts by 26 candles, TradingView by 25."""
    frame = reference.PandasFrame(market)
    found = ta.ichimoku(frame.high, frame.low, frame.close, as_dataframe=True).to_numpy(np.float64)
    leading_a, leading_b, conversion, standard, lagging = found.T
    return [conversion, standard, np.roll(leading_a, -1), np.roll(leading_b, -1), np.roll(lagging, 1)]


def pandas_keltner(market: OhlcvColumns) -> list[Floats]:
    """Combine EMA and ATR of pandas-ta. Its ATR starts at another candle, which has no weight later."""
    frame = reference.PandasFrame(market)
    middle = ta.ema(frame.close, length=20, talib=False).to_numpy(np.float64)
    reach = 2 * pandas_ta("atr", *HLC, length=10)(market)[0]
    return [middle + reach, middle, middle - reach]


def pandas_volume(market: OhlcvColumns) -> list[Floats]:
    return [market.volume, pandas_ta("sma", "volume", length=20)(market)[0]]


def talib_volume(market: OhlcvColumns) -> list[Floats]:
    return [market.volume, talib.SMA(market.volume, 20)]


def differences_since_first(run: Compute) -> Compute:
    """Subtract the first value, because only differences have a meaning."""
    return lambda market: [values - values[0] for values in run(market)]


CHECKED: Mapping[str, LibraryReferences] = {
    "sma": LibraryReferences(ta_lib("SMA", ("close",), 20), pandas_ta("sma", "close", length=20)),
    "ema": LibraryReferences(ta_lib("EMA", ("close",), 20), pandas_ta("ema", "close", length=20)),
    "wma": LibraryReferences(ta_lib("WMA", ("close",), 20), pandas_ta("wma", "close", length=20)),
    "bbands": LibraryReferences(
        ta_lib("BBANDS", ("close",), 20, 2.0, 2.0, order=(0, 1, 2)),
        pandas_ta("bbands", "close", length=20, std=2, ddof=0, places=(2, 1, 0)),
    ),
    "keltner": LibraryReferences(
        keltner, pandas_keltner, "pandas-ta's kc takes an EMA of the range: its EMA and ATR instead"
    ),
    "donchian": LibraryReferences(
        ta_lib("DONCHIAN", HL, 20, order=(0, 1, 2)),
        pandas_ta("donchian", *HL, lower_length=20, upper_length=20, places=(2, 1, 0)),
    ),
    "ichimoku": LibraryReferences(
        ichimoku, pandas_ichimoku, "TA-Lib has the middles only; pandas-ta moves them by one candle more"
    ),
    "supertrend": LibraryReferences(
        ta_lib("SUPERTREND", HLC, 10, 3.0, order=(0, 1)),
        None,
        "pandas-ta's turns at the same candles, but keeps a band that the close has crossed: one value in 70 differs",
    ),
    "psar": LibraryReferences(
        None,
        None,
        "both turn at a touch of a stop that is already out of the last candles' range, Pine at one that is not yet",
    ),
    "sar": LibraryReferences(ta_lib("SAR", HL, 0.02, 0.2), reference.sar),
    "rsi": LibraryReferences(ta_lib("RSI", ("close",), 14), pandas_ta("rsi", "close", length=14)),
    "macd": LibraryReferences(
        ta_lib("MACD", ("close",), 12, 26, 9, order=(0, 1, 2)), pandas_ta("macd", "close", places=(0, 2, 1))
    ),
    "stoch": LibraryReferences(
        ta_lib("STOCH", HLC, 14, 1, 0, 3, 0, order=(0, 1)), pandas_ta("stoch", *HLC, k=14, d=3, smooth_k=1)
    ),
    "willr": LibraryReferences(ta_lib("WILLR", HLC, 14), pandas_ta("willr", *HLC, length=14)),
    "cci": LibraryReferences(ta_lib("CCI", HLC, 20), pandas_ta("cci", *HLC, length=20)),
    "adx": LibraryReferences(
        lambda market: [ta_lib(name, HLC, 14)(market)[0] for name in ("ADX", "PLUS_DI", "MINUS_DI")],
        pandas_ta("adx", *HLC, length=14, places=(0, 1, 2)),
    ),
    "aroon": LibraryReferences(
        ta_lib("AROON", HL, 14, order=(1, 0)), pandas_ta("aroon", *HL, length=14, places=(1, 0))
    ),
    "atr": LibraryReferences(ta_lib("ATR", HLC, 14), pandas_ta("atr", *HLC, length=14)),
    "roc": LibraryReferences(ta_lib("ROC", ("close",), 9), pandas_ta("roc", "close", length=9)),
    "volume": LibraryReferences(talib_volume, pandas_volume),
    "obv": LibraryReferences(
        differences_since_first(ta_lib("OBV", ("close", "volume"))),
        differences_since_first(pandas_ta("obv", "close", "volume")),
        "both begin with a volume or a 0 of their own: differences",
    ),
    "vwap": LibraryReferences(
        None,
        pandas_ta("vwap", *HLC, "volume", anchor="D"),
        "TA-Lib's has no days: it counts from the first candle",
    ),
    "mfi": LibraryReferences(ta_lib("MFI", (*HLC, "volume"), 14), pandas_ta("mfi", *HLC, "volume", length=14)),
}


def test_table_has_references_for_every_indicator_with_outputs() -> None:
    assert set(CHECKED) == set(SERIES)
    for name, (ta_lib, pandas_ta, why_none) in CHECKED.items():
        assert why_none or (ta_lib and pandas_ta), name


@pytest.mark.parametrize("library", ["ta_lib", "pandas_ta"])
@pytest.mark.parametrize("name", SERIES)
def test_every_indicator_agrees_with_both_libraries(name: str, library: str) -> None:
    """The market begins on a Monday; compared are values after the warm-up."""
    run: Compute | None = getattr(CHECKED[name], library)
    if run is None:
        pytest.skip(CHECKED[name].why_none)
    market = random_walk(4000, 8)
    market = market._replace(open_times=market.open_times - 4 * DAY_MS)
    ours, theirs = compute(parse_spec(name), market, M1), run(market)
    assert len(ours) == len(theirs)
    for (output, values), others in zip(ours.items(), theirs, strict=True):
        assert almost_equal(values[WARM_UP_CANDLES:-30], others[WARM_UP_CANDLES:-30]), output
