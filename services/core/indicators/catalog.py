"""All indicators by name. A function under `@indicator` is served, catalogued and documented at once."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from services.core.indicators.columns import Floats
from services.core.indicators.lookback import Lookback

MAX_PERIOD_CANDLES = 500


class Parameter(NamedTuple):
    """A number that an indicator takes; `whole`: without a fraction."""

    name: str
    default: float
    minimum: float
    maximum: float
    integer: bool = True


class PriceLevel(NamedTuple):
    """A price that matters, and what is known of it."""

    name: str
    price: float
    details: Mapping[str, float]


class Indicator(NamedTuple):
    """What is known of an indicator. One of levels speaks of the last candle and has no `outputs`."""

    name: str
    title: str
    parameters: tuple[Parameter, ...]
    outputs: tuple[str, ...]
    overlay: bool  # drawn over the price, or below
    formula: str
    source: str
    lookback: Lookback
    lookahead: Callable[..., int]  # later candles that a value is made of
    ascending: bool  # the first two parameters are
    uses_timeframe: bool  # the timeframe matters
    uses_daily: bool  # it may need candles of 1d beside those of the timeframe
    compute: Callable[..., Any]
    future: Callable[..., Mapping[str, Floats]] | None  # what is known of the openings after the last candle

    @property
    def has_levels(self) -> bool:
        """Whether it answers levels, and not a value for each candle."""
        return not self.outputs


_REGISTERED: dict[str, Indicator] = {}
CATALOG: Mapping[str, Indicator] = MappingProxyType(_REGISTERED)


def period(default: int, name: str = "period", minimum: int = 2, maximum: int = MAX_PERIOD_CANDLES) -> Parameter:
    """So many candles."""
    return Parameter(name, default, minimum, maximum)


def factor(default: float, name: str = "factor", minimum: float = 0.1, maximum: float = 20) -> Parameter:
    """How many times."""
    return Parameter(name, default, minimum, maximum, integer=False)


def indicator(  # noqa: PLR0913  all that is to be known, by name
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
    """Put a function of (columns, *parameters) into the catalog under its own name; its docstring is the formula.

    With `outputs` it answers one column for each, NaN where there is no value; without, a list of levels. It takes the
    timeframe too if a parameter is called so, and after that candles of 1d if one is called `daily`.
    `future` takes the same and answers those outputs that have values at openings to come.
    """

    def put(run: Callable[..., Any]) -> Callable[..., Any]:
        name, formula = run.__name__, inspect.cleandoc(run.__doc__ or "")
        timed, daily = (word in inspect.signature(run).parameters for word in ("timeframe", "daily"))
        _REGISTERED[name] = Indicator(
            name,
            title,
            parameters,
            outputs,
            overlay,
            formula,
            source,
            lookback,
            lookahead,
            ascending,
            timed,
            daily,
            run,
            future,
        )
        return run

    return put
