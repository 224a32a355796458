"""JSON bodies of requests about people."""

from typing import Annotated

from msgspec import Meta, Struct

from services.core.accounts.scopes import PersonRole, Scope
from services.core.accounts.secret import Secret

DAY_SECONDS = 24 * 60 * 60
Name = Annotated[
    str, Meta(description="3 to 64 letters, digits and . _ - @; its case does not count", examples=["ann"])
]
Password = Annotated[Secret, Meta(description="The person's password")]
NewPassword = Annotated[
    Secret,
    Meta(
        description="12 to 1000 characters of any kind, none that is guessed first",
        examples=["correct horse battery staple"],
    ),
]


class NewPerson(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A registration."""

    name: Name
    password: NewPassword
    invitation: Annotated[
        Secret | None,
        Meta(description="A code of an admin or of the operator; without it, registration has to be open"),
    ] = None


class Credentials(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A sign-in."""

    name: Name
    password: Password


class RefreshRequest(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A refresh token to exchange."""

    refresh_token: Annotated[Secret, Meta(description="Of the last response to a sign-in or a refresh")]


class PasswordChange(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A new password."""

    password: Password
    new_password: NewPassword


class PasswordConfirmation(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The password, where a token alone is not enough."""

    password: Password


class NewApiToken(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """An API token to make."""

    name: Annotated[str, Meta(min_length=1, max_length=100, description="What it is for", examples=["grafana"])]
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=9, description="What it allows", examples=[["read"]])]
    expires_in: Annotated[
        int, Meta(ge=60, le=366 * DAY_SECONDS, description="Seconds; by default 90 days, at most a year")
    ] = 90 * DAY_SECONDS


class NewInvitation(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """An invitation to make."""

    role: Annotated[PersonRole, Meta(description="Of the person that uses it")] = PersonRole.TRADER
    expires_in: Annotated[int, Meta(ge=60, le=30 * DAY_SECONDS, description="Seconds; by default a day")] = DAY_SECONDS
