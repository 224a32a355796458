"""Types and parsers that groups of settings share."""

from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, AliasChoices, BeforeValidator
from pydantic_settings import NoDecode

MAX_SECONDS = 31_536_000  # a year


def unprefixed(name: str) -> Any:
    """Return the alias of a setting whose variable has no KURS_ prefix."""
    return AliasChoices(name)


def split_list(value: Any) -> Any:
    """Return the items of a comma list, without duplicates."""
    return tuple(dict.fromkeys(filter(None, map(str.strip, value.split(","))))) if isinstance(value, str) else value


def parse_mapping(value: Any) -> Any:
    """Return the values of a comma list NAME=VALUE by their names."""
    if not isinstance(value, str):
        return value
    rows = [item.partition("=") for item in split_list(value)]
    if wrong := [name for name, sign, meaning in rows if not (name and sign and meaning)]:
        raise ValueError(f"{wrong[0]!r} needs a value: write NAME=VALUE,NAME=VALUE")
    return {name.strip(): meaning.strip() for name, _, meaning in rows}


def _upper_keys(value: dict[str, str]) -> dict[str, str]:
    return {name.upper(): meaning for name, meaning in value.items()}


def parse_url(text: str) -> SplitResult:
    """Return a URL's parts. Raises ValueError without the text, which may contain a password."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("this is not a URL; write special characters of a password as %23 for #") from None
    return parts


def check_http_url(value: str, example: str) -> None:
    """Raise ValueError, with an example, for a text that is neither empty nor a URL for HTTP."""
    parts = parse_url(value)
    if value and not (parts.scheme in ("http", "https") and parts.hostname):
        raise ValueError(f"write a URL, for example {example}")


CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_list)]
AssetMapping = Annotated[dict[str, str], NoDecode, BeforeValidator(parse_mapping), AfterValidator(_upper_keys)]
