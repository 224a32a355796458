"""Decimals as text."""

from decimal import Decimal


def format_decimal(value: Decimal) -> str:
    """Format a decimal without an exponent and without zeros at the end; `null` for what is no number.

    1.50 and 1.5 have one text.
    """
    text = str(value)
    if "E" in text:
        text = f"{value:f}"
    if "." in text:
        return text.rstrip("0").rstrip(".")
    return text if text[-1].isdigit() else "null"
