"""Settings of one process: where it listens, its data, its servers."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from services.core.markets import LIVE, Market
from services.settings.parsing import check_http_url, parse_url, split_list, unprefixed

SCHEMES = {
    "database_url": ("sqlite+aiosqlite", "postgresql+asyncpg", "bus"),
    "redis_url": ("memory", "redis", "rediss"),
    "rabbitmq_url": ("memory", "amqp", "amqps"),
}


class ProcessSettings(BaseModel):
    """Where a process listens, its data and its servers."""

    host: str = Field("127.0.0.1", description="The address to listen on")
    public_url: str = Field(
        "", description="The URL at which clients reach the API, for the log; empty: where it listens"
    )
    port: int | None = Field(
        None,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("KURS_PORT", "PORT"),
        description="The port; if only PORT is set, that one; empty: 8000, or the next free one",
    )
    data_dir: Path = Field(Path("data"), description="The folder of one process's data")
    database_url: SecretStr = Field(
        SecretStr(""),
        validation_alias=unprefixed("DATABASE_URL"),
        description="The database of candles and last rates; empty: SQLite in KURS_DATA_DIR; bus://: none, a "
        "collector then queries the store through the writer",
    )
    database_roles: Annotated[dict[str, SecretStr], NoDecode] = Field(
        {},
        description="Services that get a role of their own in PostgreSQL from `kurs migrate`, with its "
        "password: api=…,writer=…",
    )
    redis_url: SecretStr = Field(
        SecretStr("memory://"), validation_alias=unprefixed("REDIS_URL"), description="The cache of current rates"
    )
    rabbitmq_url: SecretStr = Field(
        SecretStr("memory://"), validation_alias=unprefixed("RABBITMQ_URL"), description="The bus between services"
    )

    @field_validator("host")
    @classmethod
    def _strip_brackets(cls, value: str) -> str:
        return value.strip("[]")

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str) -> str:
        check_http_url(value, "https://rates.example")
        return value.rstrip("/")

    @field_validator("database_roles", mode="before")
    @classmethod
    def _parse_roles(cls, value: Any) -> Any:
        rows = [item.partition("=") for item in split_list(value)] if isinstance(value, str) else []
        if not all(name and password for name, _, password in rows):  # the text may be part of a password
            raise ValueError("write SERVICE=PASSWORD,SERVICE=PASSWORD")
        return {name: password for name, _, password in rows} if isinstance(value, str) else value

    @field_validator("database_url", "redis_url", "rabbitmq_url")
    @classmethod
    def _check_scheme(cls, value: SecretStr, info: Any) -> SecretStr:
        url, schemes = value.get_secret_value(), SCHEMES[info.field_name]
        if url and parse_url(url).scheme not in schemes:
            raise ValueError(f"the URL must start with one of {', '.join(f'{scheme}://' for scheme in schemes)}")
        return value

    def database_url_of(self, market: Market) -> str:
        """Return the URL of a market's database. By default each market has its own file."""
        name = "kurs.db" if market == LIVE else f"kurs-{market}.db"
        return self.database_url.get_secret_value() or f"sqlite+aiosqlite:///{self.data_dir / name}"

    def own_url(self, port: int) -> str:
        """Return the URL on this machine of a server on `host` and that port."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def in_memory(self) -> bool:
        """Return whether the bus is in this process's memory, so that the process runs alone."""
        return self.rabbitmq_url.get_secret_value().startswith("memory")
