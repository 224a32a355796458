"""What responses about candles have in common: their headers, and for how long they are cached."""

from services.web import CandleSpan, Content, public

FORMING_MS, CLOSED_MS = 1_000, 60_000  # how long a response with and without the forming candle is cached here
FORMING, CLOSED = public(1, stale=5), public(60)


def candle_content(
    body: bytes, exchange: str, *, closed: bool, changed: bool = False, span: CandleSpan | None = None
) -> Content:
    """Return a response about an exchange's candles.

    `closed`: nothing more is traded in any of them. `changed`: while they were read some may have changed.
    """
    lifetime_ms = CLOSED_MS if closed and not changed else FORMING_MS
    headers = ((b"kurs-exchange", exchange.encode()),)
    return Content(body, CLOSED if closed else FORMING, headers, lifetime_ms=lifetime_ms, span=span)
