"""Responses about people and what belongs to them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


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
