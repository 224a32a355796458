"""Settings of the limits on requests: one for each policy of `services/web/quota_policies.py`."""

from typing import Any

from pydantic import BaseModel, Field

from services.settings.parsing import unprefixed

MAX_PER_MINUTE = 1_000_000_000


def _per_minute(default: int, description: str, **more: Any) -> Any:
    return Field(default, ge=0, le=MAX_PER_MINUTE, description=description, **more)


class LimitSettings(BaseModel):
    """Requests a minute; 0: no limit."""

    api_rate_limit: int = _per_minute(
        100,
        "Requests a minute of one client address to /api/… and their copies under /v1; 0: no limit",
        validation_alias=unprefixed("API_RATE_LIMIT"),
    )
    courses_rate_limit: int = _per_minute(
        0, "Requests a minute of one client address for rates, directions and exchanges; 0: no limit"
    )
    udf_rate_limit: int = _per_minute(0, "Requests a minute of one client address to /udf/…; 0: no limit")
    stream_rate_limit: int = _per_minute(
        0, "Live streams that one client address may open in a minute, and requests for their history; 0: no limit"
    )
    page_rate_limit: int = _per_minute(
        0, "Requests a minute of one client address for pages, their files, and whatever is not served; 0: no limit"
    )
    person_rate_limit: int = _per_minute(
        600, "Requests a minute of one person, signed in or by API tokens, instead of those of the address; 0: no limit"
    )
    sign_in_rate_limit: int = _per_minute(
        10,
        "Attempts of one client address to sign in, and of one person to confirm a password, in a minute; 0: no limit",
    )
    registration_rate_limit: int = _per_minute(5, "Attempts to register of one client address in a minute; 0: no limit")
    refresh_rate_limit: int = _per_minute(
        60, "Refresh tokens that one client address may present in a minute; 0: no limit"
    )
    ticket_rate_limit: int = _per_minute(60, "Stream tickets that one person may get in a minute; 0: no limit")
    unauthenticated_rate_limit: int = _per_minute(
        60,
        "Requests a minute of one client address with a token that is not valid, or without the token that they need; "
        "0: no limit",
    )
