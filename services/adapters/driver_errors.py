"""The one translation of drivers' errors into Kurs's own: AccessRefused, which waiting does not end, or Unavailable.

Their texts never have a server's URL, which may contain a password.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.core.errors import AccessRefused, Unavailable


def _none(_error: Exception) -> bool:
    return False


@contextmanager
def translate(
    server: str,
    errors: tuple[type[Exception], ...],
    advice: Callable[[Exception], str],
    is_callers: Callable[[Exception], bool] = _none,
) -> Iterator[None]:
    """Raise `errors` of the block as AccessRefused if there is advice for the operator, otherwise as Unavailable.

    `is_callers`: errors in what the caller sent, while the server works. They are raised as they are.
    """
    try:
        yield
    except errors as error:
        reason = str(getattr(error, "orig", None) or error) or type(error).__name__
        if text := advice(error):
            raise AccessRefused(f"{text} ({reason})") from None
        if is_callers(error):
            raise
        raise Unavailable(f"{server} does not respond: {reason}") from None
