"""Decimals: the precision of what is computed from them, and their text."""

from decimal import Context, Decimal

PRODUCT_CONTEXT = Context(prec=34)  # of decimal128


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
