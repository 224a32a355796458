"""Numbers as text."""

from decimal import Decimal


def format_decimal(value: Decimal) -> str:
    """A decimal as plain digits, every one that counts and none that does not; `null` for what is no number."""
    plain = str(value)
    if "E" in plain:
        plain = f"{value:f}"
    if "." in plain:
        return plain.rstrip("0").rstrip(".")
    return plain if plain[-1].isdigit() else "null"
