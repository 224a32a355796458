"""The worked example in the docstring of the path-dependent lookback."""

import re

import numpy as np
import pytest

from services.core.indicators import OhlcvColumns, compute, parse_specs
from services.core.indicators.lookback import PathDependentLookback
from services.core.timeframes import MINUTE_MS, TIMEFRAMES

CLOSES = np.array([10.0, 11, 12, 13, 12, 10, 9, 8, 9, 11, 12, 13, 14, 12, 10, 9, 8, 9, 11, 13])
TIMES = np.arange(len(CLOSES)) * MINUTE_MS
MARKET = OhlcvColumns(TIMES, CLOSES, CLOSES + 0.5, CLOSES - 0.5, CLOSES, CLOSES)
DOCSTRING = PathDependentLookback.__doc__ or ""


def numbers(name: str) -> list[str]:
    (row,) = re.findall(rf"^ +{name} +(.*)$", DOCSTRING, re.MULTILINE)
    return [each for each in row.split() if each != "…"]


@pytest.mark.parametrize("start", [0, 2, 5, 6])
def test_docstrings_example_has_the_values_and_turns_of_psar(start: int) -> None:
    path = compute(parse_specs("psar")[0], MARKET.slice(start, len(CLOSES)), TIMEFRAMES["1m"])["psar"]
    below = path < CLOSES[start:]
    for index, text in zip(map(int, numbers("index")), numbers(f"from {start}"), strict=True):
        assert f"{path[index - start]:.2f}" == text.removesuffix("*")
        assert (below[index - start] != below[index - start - 1]) is np.bool_(text.endswith("*")), (start, index)
    assert numbers("close") == [f"{CLOSES[int(index)]:g}" for index in numbers("index")]
