"""Times as people and programs write them."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECONDS_BELOW = 10**11  # as seconds the year 5138, as milliseconds 1973: no time of ours is both
MILLISECONDS_BELOW = 10**14  # as milliseconds the year 5138, as microseconds 1973


def milliseconds(number: int) -> int:
    """UNIX seconds, milliseconds or microseconds, told apart by size, as milliseconds."""
    if number < SECONDS_BELOW:
        return number * 1000
    return number if number < MILLISECONDS_BELOW else number // 1000


def parse(text: str) -> int:
    """UNIX seconds, milliseconds or RFC 3339 (without an offset: UTC) as ms. Raises ValueError with what is wrong."""
    if text.isascii() and text.isdigit() and len(text) <= 16:
        return milliseconds(int(text))
    try:
        # a + that nobody escaped comes out of a query as a space
        moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        time = ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text[:40]!r} is not a time: write UNIX seconds, milliseconds, or 2026-01-31T12:00:00Z"
        ) from None
    if time < 0:
        raise ValueError(f"{text[:40]!r} is before 1970")
    return time


def written(time: int) -> str:
    """RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(time / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
