"""Settings of CoinGecko: its key, its plan, its names."""

from typing import Literal, Self

from pydantic import BaseModel, Field, SecretStr, model_validator

from services.settings.parsing import MAX_SECONDS, AssetMapping


class CoinGeckoSettings(BaseModel):
    """CoinGecko's key, plan and names."""

    coingecko_key: SecretStr = Field(SecretStr(""), description="A CoinGecko key; empty: keyless")
    coingecko_plan: Literal["keyless", "demo", "pro"] = Field(
        "keyless", description="The plan of the CoinGecko key: keyless, demo or pro"
    )
    coingecko_ids: AssetMapping = Field({}, description="CoinGecko's ids of further assets: SOL=solana")
    coingecko_poll_seconds: float | None = Field(
        None,
        gt=0,
        le=MAX_SECONDS,
        description="Seconds between two calls; empty: what the plan's monthly budget allows",
    )

    @model_validator(mode="after")
    def _check_plan(self) -> Self:
        if self.coingecko_plan != "keyless" and not self.coingecko_key.get_secret_value():
            raise ValueError("KURS_COINGECKO_PLAN needs KURS_COINGECKO_KEY")
        if self.coingecko_plan == "keyless" and self.coingecko_key.get_secret_value():
            raise ValueError("KURS_COINGECKO_KEY needs KURS_COINGECKO_PLAN (demo or pro): host and key must match")
        return self
