"""Cursors of lists: where the next page begins, as a text that clients pass on without reading it."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error


def format_cursor(position: str) -> str:
    """Return a position as a cursor."""
    return urlsafe_b64encode(position.encode()).decode().rstrip("=")


def parse_cursor(text: str) -> str:
    """Return the position of a cursor. Raises ValueError."""
    try:
        position = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
    except (Error, ValueError):
        position = ""
    if not position or format_cursor(position) != text:
        raise ValueError("write `next` of the page before, unchanged")
    return position


def parse_number_cursor(text: str) -> int:
    """Return the position of a cursor whose positions are numbers of 64 bits. Raises ValueError."""
    position = parse_cursor(text)
    if not position.isdigit() or not 0 < int(position[:20]) < 2**63:
        raise ValueError("write `next` of the page before, unchanged")
    return int(position)
