"""Settings of the simulator."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from services.settings.parsing import check_http_url


class SimulatorSettings(BaseModel):
    """Where the simulator is, and what it plays."""

    simulator_url: str = Field("", description="The simulator's root URL; empty: one in this process")
    simulator_seed: int = Field(
        1, ge=-(2**63), le=2**63 - 1, description="The seed of the market: the same seed gives the same market"
    )
    simulator_replay: Path | None = Field(
        None, description="A file of real trades to replay instead of the random market"
    )
    simulator_speed: float = Field(
        1, ge=0.001, le=1_000_000, description="How much faster than real time the replay runs"
    )
    simulator_control: Literal["local", "all"] = Field(
        "local",
        description="Clients that may start the simulator's faults and read its ledger: local (this machine) or all",
    )
    simulator_tls_port: int | None = Field(
        None, ge=0, le=65535, description="A second port of the simulator's process, for clients that require TLS"
    )
    simulator_tls_cert: Path | None = Field(
        None, description="The certificate of that port, in PEM; empty: one is made in KURS_DATA_DIR"
    )
    simulator_tls_key: Path | None = Field(None, description="Its key; empty: it is in the certificate's file")

    @field_validator("simulator_url")
    @classmethod
    def _check_simulator_url(cls, value: str) -> str:
        check_http_url(value, "http://simulator:8000/simulator")
        return value

    @model_validator(mode="after")
    def _require_certificate(self) -> Self:
        if self.simulator_tls_key and not self.simulator_tls_cert:
            raise ValueError("KURS_SIMULATOR_TLS_KEY needs KURS_SIMULATOR_TLS_CERT, its certificate")
        return self
