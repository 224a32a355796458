"""Objects that the garbage collector has not freed."""

import gc
from typing import Any


def live_objects(*kinds: type) -> list[Any]:
    """All objects of these kinds."""
    gc.collect()
    return [each for each in gc.get_objects() if type(each) in kinds]
