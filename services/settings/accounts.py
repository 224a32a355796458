"""Settings of people: their keys."""

from pydantic import BaseModel, Field, SecretStr, field_validator

from services.core.accounts.secret_keys import parse_keys


class AccountSettings(BaseModel):
    """The keys that protect what belongs to people."""

    master_key: SecretStr = Field(
        SecretStr(""),
        description="The key that protects what people entrust to Kurs, for the service accounts; empty: one process "
        "makes one in KURS_DATA_DIR",
    )
    token_key: SecretStr = Field(
        SecretStr(""),
        description="The key that protects the keys which sign access tokens, for the service api; empty: as above",
    )

    @field_validator("master_key", "token_key")
    @classmethod
    def _check_keys(cls, value: SecretStr) -> SecretStr:
        parse_keys(value.get_secret_value())
        return value
