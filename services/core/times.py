"""Times as text, as people and programs write them."""

import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FAR_FUTURE = 2**62  # ms; after every time that a candle can have, and 64 bits hold its negative too
SECONDS_BELOW = 10**11  # as seconds the year 5138, as milliseconds 1973: no time in Kurs is both
MILLISECONDS_BELOW = 10**14  # as milliseconds the year 5138, as microseconds 1973
UNIX_TIME = re.compile(r"[0-9]{1,16}|[0-9]{1,11}\.[0-9]{1,9}")  # a fraction is one of seconds
COMPACT_DATE = re.compile(r"(19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])")
SPACED_OFFSET = re.compile(r"(.*:.*[0-9]) ([0-9]{2}:?[0-9]{2})")  # its + came out of a query as a space


def to_ms(number: int) -> int:
    """Return UNIX seconds, milliseconds or microseconds, which differ in size, as milliseconds."""
    if number < SECONDS_BELOW:
        return number * 1000
    return number if number < MILLISECONDS_BELOW else number // 1000


def parse(text: str) -> int:
    """Parse a time, as ms. Raises ValueError with what is wrong.

    UNIX seconds, with a fraction too, milliseconds or microseconds; RFC 3339 and what Python's `str(datetime)` writes
    (without an offset: UTC); a day as 2026-01-31 or 20260131, which as UNIX seconds would be one of 1970.
    """
    if UNIX_TIME.fullmatch(text) and not COMPACT_DATE.fullmatch(text):
        whole, _, fraction = text.partition(".")
        return to_ms(int(whole)) + (int(fraction[:3].ljust(3, "0")) if fraction else 0)
    try:
        moment = datetime.fromisoformat(SPACED_OFFSET.sub(r"\1+\2", text))
        time = ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text[:40]!r} is not a time: write UNIX seconds, milliseconds, or 2026-01-31T12:00:00Z"
        ) from None
    if time < 0:
        raise ValueError(f"{text[:40]!r} is before 1970")
    if time >= MILLISECONDS_BELOW:  # the end of what a number can say, too
        raise ValueError(f"{text[:40]!r} is after the year 5138")
    return time


def format_rfc3339(time: int) -> str:
    """Format a time by RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(time / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
