"""Times in every form that people and programs write."""

import time
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qsl

import pytest

from services.core.times import parse

NOON = datetime(2026, 11, 28, 12, 30, 15, 250_000, UTC)
MS = 1_795_869_015_250


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (str(MS), MS),
        (str(MS // 1000), MS - 250),
        (str(MS * 1000 + 999), MS),
        (str(NOON.timestamp()), MS),
        (f"{MS // 1000}.2509999", MS),
        (str(NOON), MS),
        (str(NOON.replace(tzinfo=None)), MS),
        (NOON.isoformat(), MS),
        (str(NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))), MS),
        ("2026-11-28T12:30:15.25Z", MS),
        ("2026-11-28 12:30", MS - 15_250),
        ("2026-11-28", MS // 86_400_000 * 86_400_000),
        ("20261128", MS // 86_400_000 * 86_400_000),
        ("0", 0),
    ],
)
def test_time_is_parsed_in_every_form_escaped_or_not(text: str, expected: int) -> None:
    assert parse(text) == expected
    ((_, sent),) = parse_qsl(f"from={text}")
    assert parse(sent) == expected


def test_pythons_time_is_parsed() -> None:
    now = time.time()
    assert abs(parse(str(now)) - now * 1000) <= 1


@pytest.mark.parametrize(
    "text", ["", "yesterday", "1e9", "-1", "+5", "٣", "9" * 25, "2026-13-01", "1.5.5", "0x10", "nan"]
)
def test_invalid_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write UNIX seconds, milliseconds, or 2026-01-31T12:00:00Z"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "wrong"), [("1969-12-31", "before 1970"), ("9999-12-31T23:59:59-23:59", "after the year 5138")]
)
def test_time_without_possible_candles_is_refused(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        parse(text)
