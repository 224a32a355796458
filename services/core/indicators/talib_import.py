"""TA-Lib, without the pandas that it loads only to accept its series: a second and 80 MB that nobody here needs."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _hidden_modules(*names: str) -> Iterator[None]:
    """These modules cannot be imported inside, unless they are already."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: "there is no such module"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with _hidden_modules("pandas", "polars"):
    import talib
    from talib._ta_lib import MA_Type

MA_SIMPLE = MA_Type.SMA  # the kind of average

__all__ = ["MA_SIMPLE", "talib"]
