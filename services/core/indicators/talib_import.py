"""TA-Lib without pandas and polars, which it imports only to accept their series: that saves a second and 80 MB."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _hidden_modules(*names: str) -> Iterator[None]:
    """Make the import of these modules fail inside, unless they are loaded already."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None makes an import fail
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with _hidden_modules("pandas", "polars"):
    import talib
    from talib._ta_lib import MA_Type

MA_SIMPLE = MA_Type.SMA

__all__ = ["MA_SIMPLE", "talib"]
