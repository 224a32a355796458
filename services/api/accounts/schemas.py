"""Responses about people and what belongs to them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from services.api.schemas import example
from services.core.accounts import model
from services.core.accounts.model import PersonState
from services.core.accounts.scopes import PersonRole
from services.web import TokenKind

EXAMPLE_ID = "019ad9a1-7c55-7d3e-8f10-2b64d1c0a9e7"
EXAMPLE_PERSON = {"id": EXAMPLE_ID, "name": "ann", "role": "trader", "state": "active", "created_at": 1764576000000}
EXAMPLE_SIGNED_IN = {
    "access_token": "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbm4ifQ.c2ln",
    "token_type": "Bearer",
    "expires_in": 600,
    "refresh_token": "kurs_r_…",
    "refresh_expires_in": 2592000,
    "scope": "read trade wallet signal",
    "person": EXAMPLE_PERSON,
}
EXAMPLE_SIGN_IN = {
    "id": EXAMPLE_ID,
    "created_at": 1764576000000,
    "last_used_at": 1764579600000,
    "expires_at": 1767171600000,
    "address": "192.0.2.7",
    "agent": "Mozilla/5.0",
    "current": True,
}
EXAMPLE_API_TOKEN = {
    "id": EXAMPLE_ID,
    "name": "grafana",
    "prefix": "kurs_p_4Fg9",
    "scope": "read",
    "created_at": 1764576000000,
    "expires_at": 1772352000000,
    "last_used_at": None,
}
EXAMPLE_INVITATION = {
    "id": EXAMPLE_ID,
    "role": "trader",
    "created_by": EXAMPLE_ID,
    "created_at": 1764576000000,
    "expires_at": 1764662400000,
}


class JsonWebKey(BaseModel):
    """A public key (RFC 8037)."""

    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    alg: Literal["EdDSA"] = "EdDSA"
    use: Literal["sig"] = "sig"
    kid: str = Field(description="As in the header of the tokens that it verifies", examples=["9f86d081884c7d65"])
    x: str = Field(description="The 32 bytes of the key in base64url")


class JsonWebKeySet(BaseModel):
    """The public keys that verify access tokens, the oldest first (RFC 7517)."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "keys": [
                    {
                        "kty": "OKP",
                        "crv": "Ed25519",
                        "alg": "EdDSA",
                        "use": "sig",
                        "kid": "9f86d081884c7d65",
                        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
                    }
                ]
            }
        }
    )

    keys: list[JsonWebKey]


class Person(BaseModel):
    """A person: somebody that signs in."""

    model_config = example(**EXAMPLE_PERSON)

    id: str
    name: str
    role: PersonRole
    state: PersonState = Field(description="A disabled person may not sign in")
    created_at: int

    @classmethod
    def of(cls, person: model.Person) -> "Person":
        """Return a person without what is secret."""
        return cls.model_validate(person, from_attributes=True)


class Persons(BaseModel):
    """A page of people."""

    model_config = example(persons=[EXAMPLE_PERSON], next=None)

    persons: list[Person]
    next: str | None = Field(description="`cursor` of the next page; null: there are no more")


class Me(Person):
    """The person of the token, and what the token is."""

    model_config = example(**EXAMPLE_PERSON | {"token": "access", "scope": "read trade wallet signal"})

    token: TokenKind = Field(description="access: of a sign-in; api: of a program")
    scope: str = Field(description="What the token allows, separated by spaces")


class SignedIn(BaseModel):
    """Tokens of a sign-in (RFC 6749, section 5.1)."""

    model_config = example(**EXAMPLE_SIGNED_IN)

    access_token: str = Field(description="For the header `Authorization: Bearer …`")
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105  a kind of token
    expires_in: int = Field(description="Seconds for which the access token is valid")
    refresh_token: str = Field(description="For `POST /v1/sign-in/refresh`, once")
    refresh_expires_in: int = Field(description="Seconds for which the refresh token is valid")
    scope: str = Field(description="What the access token allows, separated by spaces")
    person: Person


class SignIn(BaseModel):
    """One sign-in of one person on one device."""

    id: str
    created_at: int
    last_used_at: int = Field(description="When its tokens were last refreshed")
    expires_at: int
    address: str = Field(description="From where it began: an IPv4 address, or the network of an IPv6 address")
    agent: str = Field(description="User-Agent")
    current: bool = Field(description="It is the one of this request")

    @classmethod
    def of(cls, sign_in: model.SignIn, current: str) -> "SignIn":
        """Return a sign-in without what is secret. `current`: the id of the caller's."""
        fields = {name: getattr(sign_in, name) for name in cls.model_fields if name != "current"}
        return cls(**fields, current=sign_in.id == current)


class SignIns(BaseModel):
    """Active sign-ins, newest first."""

    model_config = example(sign_ins=[EXAMPLE_SIGN_IN])

    sign_ins: list[SignIn]


class ApiToken(BaseModel):
    """A token of a program."""

    id: str
    name: str
    prefix: str = Field(description="How the token begins")
    scope: str = Field(description="What it allows, separated by spaces")
    created_at: int
    expires_at: int
    last_used_at: int | None = Field(description="To the minute; null: never")

    @classmethod
    def of(cls, token: model.ApiToken) -> "ApiToken":
        """Return a token without what is secret."""
        fields = {name: getattr(token, name) for name in cls.model_fields if name != "scope"}
        return cls(**fields, scope=token.scopes)


class ApiTokens(BaseModel):
    """API tokens that have not expired, newest first."""

    model_config = example(api_tokens=[EXAMPLE_API_TOKEN])

    api_tokens: list[ApiToken]


class MadeApiToken(ApiToken):
    """A new API token, shown once."""

    model_config = example(**EXAMPLE_API_TOKEN | {"token": "kurs_p_…"})

    token: str = Field(description="For the header `Authorization: Bearer …`; it cannot be shown again")


class StreamTicket(BaseModel):
    """A ticket for one live stream."""

    model_config = example(ticket="kurs_t_…", expires_in=30)

    ticket: str = Field(description="For `?ticket=` of `/v1/stream` or `/ws/chart-data`, once")
    expires_in: int = Field(description="Seconds for which it is valid")


class Invitation(BaseModel):
    """A code with which one person may register."""

    id: str
    role: PersonRole = Field(description="Of the person that uses it")
    created_by: str = Field(description="The id of the admin; empty: the operator")
    created_at: int
    expires_at: int

    @classmethod
    def of(cls, invitation: model.Invitation) -> "Invitation":
        """Return an invitation without what is secret."""
        return cls.model_validate(invitation, from_attributes=True)


class Invitations(BaseModel):
    """Invitations that may still be used, newest first."""

    model_config = example(invitations=[EXAMPLE_INVITATION])

    invitations: list[Invitation]


class MadeInvitation(Invitation):
    """A new invitation, whose code is shown once."""

    model_config = example(**EXAMPLE_INVITATION, code="kurs_i_…")

    code: str = Field(description="For `invitation` of `POST /v1/persons`; it cannot be shown again")
