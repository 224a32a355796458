"""Numbers as text."""

from decimal import Decimal


def number(value: Decimal) -> str:
    """A decimal as plain digits, every one that counts and none that does not."""
    plain = str(value)
    if "E" in plain:
        plain = f"{value:f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain
