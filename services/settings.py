"""Every setting, from the environment or `.env`. The defaults run everything in one process.

A name with the suffix `_FILE` (`DATABASE_URL_FILE`) reads the value from a file, for secrets.
"""

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, quote, unquote, urlsplit

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from services.core.errors import Misconfigured
from services.core.journal import JOURNAL_BYTES
from services.core.markets import LIVE, Market
from services.core.model import Instrument
from services.core.proxies import Proxies, parse_exemptions, parse_proxy
from services.settings_sources import (
    LowerCaseProxySource,
    SecretFileSource,
    raw_values,
    reject_misspelled,
    variable_in_use,
)

LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
    BeforeValidator(lambda word: word.upper() if isinstance(word, str) else word),
]
SCHEMES = {
    "database_url": ("sqlite+aiosqlite", "postgresql+asyncpg", "bus"),
    "redis_url": ("memory", "redis", "rediss"),
    "rabbitmq_url": ("memory", "amqp", "amqps"),
}
HOST_PATTERN = re.compile(r"\*|(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
MAX_SECONDS = 31_536_000  # a year


def unprefixed(name: str) -> Any:
    """Return the alias of a setting whose variable has no KURS_ prefix."""
    return AliasChoices(name)


class Settings(BaseSettings):
    """All settings. A wrong value is rejected at the start with a line that names the setting."""

    model_config = SettingsConfigDict(
        env_prefix="KURS_",
        env_file=".env",
        env_file_encoding="utf-8-sig",  # editors on Windows write a byte order mark
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
    )

    database_url: SecretStr = Field(
        SecretStr(""),
        validation_alias=unprefixed("DATABASE_URL"),
        description="The database of candles and last rates; empty: SQLite in KURS_DATA_DIR; bus://: none, a "
        "collector then queries the store through the writer",
    )
    redis_url: SecretStr = Field(
        SecretStr("memory://"), validation_alias=unprefixed("REDIS_URL"), description="The cache of current rates"
    )
    rabbitmq_url: SecretStr = Field(
        SecretStr("memory://"), validation_alias=unprefixed("RABBITMQ_URL"), description="The bus between services"
    )
    api_rate_limit: int = Field(
        0,
        ge=0,
        le=1_000_000_000,
        validation_alias=unprefixed("API_RATE_LIMIT"),
        description="Requests a minute per client address; 0: no limit",
    )
    websocket_max_connections: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        validation_alias=unprefixed("WEBSOCKET_MAX_CONNECTIONS"),
        description="Live connections, WebSocket and SSE, per replica",
    )
    log_level: LogLevel = Field(
        "INFO",
        validation_alias=unprefixed("LOG_LEVEL"),
        description="The log level: DEBUG, INFO, WARNING, ERROR or CRITICAL",
    )
    cors_allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        ("http://localhost:5173", "http://localhost:4173"),
        validation_alias=unprefixed("CORS_ALLOWED_ORIGINS"),
        description="Origins of web pages that may read the API from a browser; null: pages without one; a comma list",
    )

    database_roles: Annotated[dict[str, SecretStr], NoDecode] = Field(
        {},
        description="Services that get a role of their own in PostgreSQL from `kurs migrate`, with its "
        "password: api=…,writer=…",
    )
    data_dir: Path = Field(Path("data"), description="The folder of one process's data")
    host: str = Field("127.0.0.1", description="The address to listen on")
    port: int | None = Field(
        None,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("KURS_PORT", "PORT"),
        description="The port; if only PORT is set, that one; empty: 8000, or the next free one",
    )
    public_url: str = Field(
        "", description="The URL at which clients reach the API, for the log; empty: where it listens"
    )
    log_levels: Annotated[dict[str, LogLevel], NoDecode] = Field(
        {}, description="Log levels of single modules: collector=DEBUG,pricer=WARNING"
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Host names under which Kurs may be requested, beside localhost and IP addresses: "
        "kurs.example, *.kurs.example, or * for any; a comma list. Empty: any, but none where "
        "KURS_HOST is the loopback",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Proxies whose X-Forwarded-For is trusted: addresses or networks, a comma list"
    )

    https_proxy: SecretStr = Field(
        SecretStr(""),
        validation_alias=unprefixed("HTTPS_PROXY"),
        description="The proxy to the exchanges: http, https, socks4(a) or socks5(h)://user:password@host:port",
    )
    http_proxy: SecretStr = Field(
        SecretStr(""), validation_alias=unprefixed("HTTP_PROXY"), description="The proxy to addresses without TLS"
    )
    all_proxy: SecretStr = Field(
        SecretStr(""), validation_alias=unprefixed("ALL_PROXY"), description="The proxy where the other two are empty"
    )
    no_proxy: str = Field(
        "",
        validation_alias=unprefixed("NO_PROXY"),
        description="What is reached without a proxy: names with all names below them, addresses, networks; a "
        "comma list",
    )
    ssl_cert_file: str = Field(
        "",
        validation_alias=AliasChoices("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        description="The certificate authorities that are trusted instead of the system's, in a PEM file; or",
    )
    ssl_cert_dir: str = Field("", validation_alias=unprefixed("SSL_CERT_DIR"), description="in a folder")

    market: Literal["auto", "live", "simulated"] = Field(
        "auto",
        description="live: the exchanges; simulated: the simulator; auto: live if reachable (or split), "
        "otherwise simulated",
    )
    exchanges: Annotated[tuple[str, ...], NoDecode] = Field(
        ("binance", "deribit", "coingecko"), min_length=1, description="The exchanges, the preferred one first"
    )
    directions: Annotated[tuple[Instrument, ...], NoDecode] = Field(
        tuple(Instrument(base, quote) for base in ("BTC", "ETH", "USDTTRC", "USDTERC") for quote in ("RUB", "USD")),
        min_length=1,
        description="The directions for which rates are served",
    )
    assets: Annotated[dict[str, str], NoDecode] = Field(
        {"USDTTRC": "USDT", "USDTERC": "USDT"}, description="Names in directions that stand for an asset: USDTTRC=USDT"
    )
    symbols: Annotated[tuple[Instrument, ...], NoDecode] = Field(
        (Instrument("BTC", "USDT"), Instrument("ETH", "USDT")),
        description="Pairs collected beside those that the directions need; BTC-USD-PERPETUAL: a contract, of Deribit",
    )
    history_bars: int = Field(
        1000, ge=0, le=100_000, description="Closed candles of each timeframe that are fetched; of 1d all that exist"
    )
    analysis_bars: int = Field(
        1000,
        ge=0,
        le=100_000_000,
        description="Closed candles of each timeframe whose indicators and analysis are kept; 0: all",
    )
    store_indicators: bool = Field(
        True,
        description="Whether indicators of closed candles are saved, for readers of the database; Kurs has no need",
    )
    fresh_seconds: float = Field(
        5, gt=0, le=MAX_SECONDS, description="Maximum age of an exchange's own quote, in seconds"
    )
    reference_seconds: float = Field(
        900, gt=0, le=MAX_SECONDS, description="Maximum age of a currency or peg of the reference, in seconds"
    )
    reference_price_seconds: float = Field(
        120, gt=0, le=MAX_SECONDS, description="Maximum age of the reference's price of any other coin, in seconds"
    )
    steady_seconds: float = Field(
        15, ge=0, le=MAX_SECONDS, description="How long an exchange must be fresh before it is used again, in seconds"
    )
    outlier_bps: float = Field(
        200, gt=0, le=1_000_000, description="Maximum distance of a rate from the others' median, in basis points"
    )
    stream_address_connections: int = Field(
        100, ge=1, le=1_000_000, description="Live connections per client address and replica"
    )
    journal_bytes: int = Field(
        JOURNAL_BYTES,
        ge=1_000_000,
        le=1_000_000_000_000,
        description="Bytes of the journal, from which live streams are resumed; Redis needs half as much in addition",
    )
    conflate_ms: int = Field(
        100, ge=0, le=60_000, description="Quotes of one instrument are published at most this often, in ms"
    )

    coingecko_key: SecretStr = Field(SecretStr(""), description="A CoinGecko key; empty: keyless")
    coingecko_plan: Literal["keyless", "demo", "pro"] = Field(
        "keyless", description="The plan of the CoinGecko key: keyless, demo or pro"
    )
    coingecko_ids: Annotated[dict[str, str], NoDecode] = Field(
        {}, description="CoinGecko's ids of further assets: SOL=solana"
    )
    coingecko_poll_seconds: float | None = Field(
        None,
        gt=0,
        le=MAX_SECONDS,
        description="Seconds between two calls; empty: what the plan's monthly budget allows",
    )

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

    @field_validator("cors_allowed_origins", "exchanges", "trusted_proxies", "allowed_hosts", mode="before")
    @classmethod
    def _parse_lists(cls, value: Any) -> Any:
        return _split_list(value)

    @field_validator("directions", "symbols", mode="before")
    @classmethod
    def _parse_pairs(cls, value: Any) -> Any:
        return tuple(dict.fromkeys(map(Instrument.parse, _split_list(value)))) if isinstance(value, str) else value

    @field_validator("directions")
    @classmethod
    def _reject_contracts(cls, value: tuple[Instrument, ...]) -> tuple[Instrument, ...]:
        if wrong := [direction for direction in value if direction.contract]:
            raise ValueError(f"{wrong[0]} is not a direction: write BASE-QUOTE, for example BTC-USD")
        return value

    @field_validator("assets", "coingecko_ids", "log_levels", mode="before")
    @classmethod
    def _parse_mapping(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        rows = [word.partition("=") for word in _split_list(value)]
        if wrong := [name for name, sign, meaning in rows if not (name and sign and meaning)]:
            raise ValueError(f"{wrong[0]!r} needs a value: write NAME=VALUE,NAME=VALUE")
        return {name.strip(): meaning.strip() for name, _, meaning in rows}

    @field_validator("database_roles", mode="before")
    @classmethod
    def _parse_roles(cls, value: Any) -> Any:
        rows = [word.partition("=") for word in _split_list(value)] if isinstance(value, str) else []
        if not all(name and password for name, _, password in rows):  # the text may be part of a password
            raise ValueError("write SERVICE=PASSWORD,SERVICE=PASSWORD")
        return {name: password for name, _, password in rows} if isinstance(value, str) else value

    @field_validator("cors_allowed_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = _parse_url(origin)
            if origin in ("*", "null"):
                continue
            if not parts.hostname or origin != f"{parts.scheme}://{parts.netloc}":
                raise ValueError(
                    f"{origin!r} is not an origin: write https://page.example, without a path or / at the end"
                )
            if "*" in origin:
                raise ValueError(f"{origin!r} matches no page: name each origin, or write * for all")
            if origin != (sent := _browser_origin(parts)):
                raise ValueError(f"{origin!r} differs from what browsers send: write {sent}")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not HOST_PATTERN.fullmatch(host):
                raise ValueError(f"{host!r} is not a host name: write kurs.example, without scheme, port and path")
        return tuple(host.lower() for host in value)

    @field_validator("log_levels")
    @classmethod
    def _check_log_levels(cls, value: dict[str, LogLevel]) -> dict[str, LogLevel]:
        known = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*"))
        if wrong := [name for name in value if name.partition(".")[0] not in known]:
            raise ValueError(f"{wrong[0]!r} is not a module of Kurs: there are {', '.join(known)}")
        return value

    @field_validator("simulator_url")
    @classmethod
    def _check_simulator_url(cls, value: str) -> str:
        parts = _parse_url(value)
        if value and not (parts.scheme in ("http", "https") and parts.hostname):
            raise ValueError("write a URL, for example http://simulator:8000/simulator")
        return value

    @field_validator("host")
    @classmethod
    def _strip_brackets(cls, value: str) -> str:
        return value.strip("[]")

    @field_validator("https_proxy", "http_proxy", "all_proxy")
    @classmethod
    def _check_proxy(cls, value: SecretStr) -> SecretStr:
        parse_proxy(value.get_secret_value())
        return value

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str) -> str:
        parts = _parse_url(value)
        if value and not (parts.scheme in ("http", "https") and parts.hostname):
            raise ValueError("write a URL, for example https://rates.example")
        return value.rstrip("/")

    @field_validator("assets", "coingecko_ids")
    @classmethod
    def _upper_keys(cls, value: dict[str, str]) -> dict[str, str]:
        return {name.upper(): meaning for name, meaning in value.items()}

    @field_validator("trusted_proxies")
    @classmethod
    def _check_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in value:
            ip_network(proxy)
        return value

    @field_validator("database_url", "redis_url", "rabbitmq_url")
    @classmethod
    def _check_scheme(cls, value: SecretStr, info: Any) -> SecretStr:
        url, schemes = value.get_secret_value(), SCHEMES[info.field_name]
        if url and _parse_url(url).scheme not in schemes:
            raise ValueError(f"the URL must start with one of {', '.join(f'{scheme}://' for scheme in schemes)}")
        return value

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.coingecko_plan != "keyless" and not self.coingecko_key.get_secret_value():
            raise ValueError("KURS_COINGECKO_PLAN needs KURS_COINGECKO_KEY")
        if self.coingecko_plan == "keyless" and self.coingecko_key.get_secret_value():
            raise ValueError("KURS_COINGECKO_KEY needs KURS_COINGECKO_PLAN (demo or pro): host and key must match")
        if self.simulator_tls_key and not self.simulator_tls_cert:
            raise ValueError("KURS_SIMULATOR_TLS_KEY needs KURS_SIMULATOR_TLS_CERT, its certificate")
        return self

    def database_url_of(self, market: Market) -> str:
        """Return the URL of a market's database. By default each market has its own file."""
        name = "kurs.db" if market == LIVE else f"kurs-{market}.db"
        return self.database_url.get_secret_value() or f"sqlite+aiosqlite:///{self.data_dir / name}"

    def own_url(self, port: int) -> str:
        """Return the URL on this machine of a server on `host` and that port."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def proxies(self) -> Proxies:
        """Return the proxies. Servers on `host` are reached directly."""
        http, https, other = (
            parse_proxy(value.get_secret_value()) for value in (self.http_proxy, self.https_proxy, self.all_proxy)
        )
        return Proxies(http or other, https or other, parse_exemptions(f"{self.no_proxy},{self.host}"))

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return the keys and passwords that no log may contain, plain and as quoted in URLs."""
        urls = (self.database_url, self.redis_url, self.rabbitmq_url, self.https_proxy, self.http_proxy, self.all_proxy)
        texts = (url.get_secret_value() for url in urls)
        written = [urlsplit(text if "://" in text else f"//{text}").password or "" for text in texts]
        meant = [unquote(password) for password in written]
        others = (self.coingecko_key, *self.database_roles.values())
        hidden = [each.get_secret_value() for each in others]
        return (*written, *meant, *(quote(each, safe="") for each in meant), *hidden)

    @property
    def in_memory(self) -> bool:
        """Return whether the bus is in this process's memory, so that the process runs alone."""
        return self.rabbitmq_url.get_secret_value().startswith("memory")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        named = {**raw_values(dotenv_settings), **raw_values(env_settings)}
        reject_misspelled(named, settings_cls)
        files, lower_case = SecretFileSource(settings_cls, named), LowerCaseProxySource(settings_cls)
        return init_settings, files, lower_case, env_settings, dotenv_settings


def _browser_origin(parts: SplitResult) -> str:
    """Return an origin as browsers send it: in lower case, without the scheme's default port, the host in ASCII."""
    host = (
        (parts.hostname or "").encode("idna").decode() if ":" not in (parts.hostname or "") else f"[{parts.hostname}]"
    )
    port = "" if parts.port in (None, {"http": 80, "https": 443}.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def load(**changes: Any) -> Settings:
    """Load settings from the environment. Raises Misconfigured with a line for each wrong value, never the value."""
    try:
        return Settings(**changes)
    except (OSError, UnicodeDecodeError) as error:
        why = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise Misconfigured(f".env cannot be read: {why}") from None
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_input=False, include_url=False):
            field = str(problem["loc"][0]) if problem["loc"] else ""
            text = problem["msg"].removeprefix("Value error, ")
            lines.append(": ".join(filter(None, [variable_in_use(field, Settings), text])))
        raise Misconfigured("\n".join(lines)) from None


def _parse_url(text: str) -> SplitResult:
    """Return a URL's parts. Raises ValueError without the text, which may contain a password."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("this is not a URL; write special characters of a password as %23 for #") from None
    return parts


def _split_list(value: Any) -> Any:
    """Return the items of a comma list, without duplicates."""
    return tuple(dict.fromkeys(filter(None, map(str.strip, value.split(","))))) if isinstance(value, str) else value
