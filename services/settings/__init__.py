"""Every setting, from the environment or `.env`. The defaults run everything in one process.

A module has one group of settings, as `.env.example` has them. A name with the suffix `_FILE` (`DATABASE_URL_FILE`)
reads the value from a file, for secrets.
"""

from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from services.core.accounts.secret_keys import split_keys
from services.core.errors import Misconfigured
from services.core.proxies import Proxies, parse_exemptions, parse_proxy
from services.settings.accounts import AccountSettings
from services.settings.clients import ClientSettings
from services.settings.coingecko import CoinGeckoSettings
from services.settings.limits import LimitSettings
from services.settings.logs import LogSettings
from services.settings.market_data import MarketDataSettings
from services.settings.outbound import OutboundSettings
from services.settings.process import ProcessSettings
from services.settings.simulator import SimulatorSettings
from services.settings.sources import (
    LowerCaseProxySource,
    SecretFileSource,
    raw_values,
    reject_misspelled,
    variable_in_use,
)


class Settings(
    MarketDataSettings,
    CoinGeckoSettings,
    ClientSettings,
    LimitSettings,
    AccountSettings,
    OutboundSettings,
    LogSettings,
    ProcessSettings,
    SimulatorSettings,
    BaseSettings,
):
    """All settings. A wrong value is rejected at the start with a line that names the setting."""

    model_config = SettingsConfigDict(
        env_prefix="KURS_",
        env_file=".env",
        env_file_encoding="utf-8-sig",  # editors on Windows write a byte order mark
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
    )

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
        quoted = [urlsplit(text if "://" in text else f"//{text}").password or "" for text in texts]
        plain = [unquote(password) for password in quoted]
        others = [secret.get_secret_value() for secret in (self.coingecko_key, *self.database_roles.values())]
        keys = [key for lists in (self.master_key, self.token_key) for key in split_keys(lists.get_secret_value())]
        return (*quoted, *plain, *(quote(password, safe="") for password in plain), *others, *keys)

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
