"""Settings of people: how they register, their keys, and how long the audit log is kept."""

from typing import Literal

from pydantic import BaseModel, Field, SecretStr, field_validator

from services.core.accounts.secret_keys import parse_keys


class AccountSettings(BaseModel):
    """How people register, the keys that protect what belongs to them, and the audit log."""

    registration: Literal["open", "invitation", "closed"] = Field(
        "open",
        description="Registration: open: of anyone; invitation: with a code of an admin or the operator; closed: with "
        "a code of the operator",
    )

    master_key: SecretStr = Field(
        SecretStr(""),
        description="The key that protects what people entrust to Kurs, for the service accounts; empty: one process "
        "makes one in KURS_DATA_DIR",
    )
    token_key: SecretStr = Field(
        SecretStr(""),
        description="The key that protects the keys which sign access tokens, for the service api; empty: as above",
    )
    task_days: int = Field(30, ge=1, le=36_500, description="Days after which finished tasks are deleted")
    audit_days: int = Field(400, ge=1, le=36_500, description="Days after which entries of the audit log are deleted")

    @field_validator("master_key", "token_key")
    @classmethod
    def _check_keys(cls, value: SecretStr) -> SecretStr:
        parse_keys(value.get_secret_value())
        return value
