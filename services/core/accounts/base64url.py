"""Base64url without padding (RFC 4648, section 5): exactly one text for each value."""

from base64 import urlsafe_b64decode, urlsafe_b64encode


def encode(value: bytes) -> str:
    """Return the text of bytes."""
    return urlsafe_b64encode(value).decode().rstrip("=")


def decode(text: str) -> bytes:
    """Return the bytes of a text. Raises ValueError for one that `encode` does not return."""
    value = urlsafe_b64decode(text + "=" * (-len(text) % 4))  # it skips characters that are not of the alphabet
    if encode(value) != text:
        raise ValueError("this is not base64url")
    return value
