"""All indicators by name. `@indicator` registers a function, which HTTP, live streams and the docs then include."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from services.core.indicators.columns import Floats
from services.core.indicators.lookback import Lookback

MAX_PERIOD_CANDLES = 500


class Parameter(NamedTuple):
    """A numeric parameter of an indicator."""

    name: str
    default: float
    minimum: float
    maximum: float
    integer: bool = True


class PriceLevel(NamedTuple):
    """A named price with details, such as how often the market touched it."""

    name: str
    price: float
    details: Mapping[str, float]


class Indicator(NamedTuple):
    """An indicator: a column for each of its `outputs`, or price levels as of the last candle if it has none."""

    name: str
    title: str
    parameters: tuple[Parameter, ...]
    outputs: tuple[str, ...]
    overlay: bool  # a chart draws it over the price, otherwise below
    formula: str
    source: str
    lookback: Lookback
    lookahead: Callable[..., int]  # number of later candles that a value depends on, by the parameters
    ascending: bool  # the first parameter must be less than the second
    uses_timeframe: bool
    uses_daily: bool  # needs candles of 1d beside those of some timeframes
    compute: Callable[..., Any]
    future: Callable[..., Mapping[str, Floats]] | None  # values after the last candle

    @property
    def has_levels(self) -> bool:
        """Whether it has price levels instead of outputs."""
        return not self.outputs


_REGISTERED: dict[str, Indicator] = {}
CATALOG: Mapping[str, Indicator] = MappingProxyType(_REGISTERED)


def period(default: int, name: str = "period", minimum: int = 2, maximum: int = MAX_PERIOD_CANDLES) -> Parameter:
    """Return a parameter in candles."""
    return Parameter(name, default, minimum, maximum)


def factor(default: float, name: str = "factor", minimum: float = 0.1, maximum: float = 20) -> Parameter:
    """Return a parameter that multiplies."""
    return Parameter(name, default, minimum, maximum, integer=False)


def indicator(  # noqa: PLR0913  each by its name
    title: str,
    *parameters: Parameter,
    lookback: Lookback,
    source: str,
    outputs: tuple[str, ...] = (),
    overlay: bool = False,
    lookahead: Callable[..., int] = lambda *_: 0,
    ascending: bool = False,
    future: Callable[..., Mapping[str, Floats]] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function of (columns, *parameters) under its own name. Its docstring is the formula.

    With `outputs` the function returns a column for each, NaN where there is no value, otherwise a list of price
    levels. A function with a parameter `timeframe` also gets the timeframe, one with `daily` after it candles of 1d.
    `future` takes the same arguments and returns the outputs that have values after the last candle.
    """

    def register(compute: Callable[..., Any]) -> Callable[..., Any]:
        arguments = inspect.signature(compute).parameters
        _REGISTERED[compute.__name__] = Indicator(
            name=compute.__name__,
            title=title,
            parameters=parameters,
            outputs=outputs,
            overlay=overlay,
            formula=inspect.cleandoc(compute.__doc__ or ""),
            source=source,
            lookback=lookback,
            lookahead=lookahead,
            ascending=ascending,
            uses_timeframe="timeframe" in arguments,
            uses_daily="daily" in arguments,
            compute=compute,
            future=future,
        )
        return compute

    return register
