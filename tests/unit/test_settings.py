"""Settings: read from the environment and .env, and refused with a line that names the variable but no secret."""

import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from services.command_line import parse_process
from services.core.errors import Misconfigured
from services.core.model import Instrument
from services.settings import Settings, load
from services.settings.sources import environment_name

PASSWORD = "hunter2-very-secret"


@pytest.fixture(autouse=True)
def _empty_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # without the developer's .env


def test_settings_with_and_without_prefix_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_RATE_LIMIT", "600")
    monkeypatch.setenv("CORS_ALLOWED_ORIGINS", "https://a.example, https://b.example")
    monkeypatch.setenv("KURS_DIRECTIONS", "btc-usd,SOL-EUR")
    monkeypatch.setenv("KURS_COINGECKO_IDS", "SOL=solana")
    settings = load()
    assert settings.api_rate_limit == 600
    assert settings.cors_allowed_origins == ("https://a.example", "https://b.example")
    assert settings.directions == (Instrument("BTC", "USD"), Instrument("SOL", "EUR"))
    assert settings.coingecko_ids == {"SOL": "solana"}


def test_env_file_and_a_secret_file_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"redis://:{PASSWORD}@cache:6379/0\n")
    (tmp_path / ".env").write_text(
        f"LOG_LEVEL=debug\nKURS_FRESH_SECONDS=7\nSOMETHING_ELSE=1\nREDIS_URL_FILE={secret}\n"
    )
    monkeypatch.setenv("KURS_COINGECKO_KEY_FILE", str(secret))
    monkeypatch.setenv("KURS_COINGECKO_PLAN", "demo")
    settings = load()
    assert (settings.log_level, settings.fresh_seconds) == ("DEBUG", 7)
    assert settings.redis_url == settings.coingecko_key == SecretStr(f"redis://:{PASSWORD}@cache:6379/0")
    assert PASSWORD not in repr(settings)


@pytest.mark.parametrize(
    "name",
    [
        "LOG_LEVEL2",
        "LOG_LEVELS",
        "LOGLEVEL",
        "CATALOG_LEVEL",
        "REDIS_HOST",
        "REDIS_URI",
        "REDIS_URL_2",
        "DATABASE_URI",
        "DATABASE_USER",
        "PG_DATABASE_URL",
        "API_RATE",
        "CORS_ALLOW_ORIGINS",
        "RABBITMQ_USER",
        "KURS_BIND",
        "KURS_SERVICE_HOST",
        "KURS_SERVICE_PORT_HTTP",
        "KURS_API_PORT",
        "KURS_PORT_8000_TCP_ADDR",
        "KURS_API_PORT_8000_TCP",
        "FTP_PROXY",
        "GO_PROXY",
        "NIX_SSL_CERT_FILE",
    ],
)
def test_similar_variables_of_other_programs_are_ignored(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "whatever")
    load()


@pytest.mark.parametrize("field", Settings.model_fields)
def test_empty_value_means_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, field: str) -> None:
    name = environment_name(field, Settings)
    for other in ("PORT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(other, raising=False)
    for where in ("environment", ".env"):
        monkeypatch.delenv(name, raising=False)
        if where == "environment":
            monkeypatch.setenv(name, "")
        else:
            (tmp_path / ".env").write_text(f"{name}=\n")
        assert getattr(load(), field) == Settings.model_fields[field].default


NUMBERS = {
    field for field, info in Settings.model_fields.items() if info.annotation in (int, float, int | None, float | None)
}


@pytest.mark.parametrize("field", sorted(NUMBERS))
def test_number_is_accepted_up_to_its_bounds_only(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    name, limits = environment_name(field, Settings), dict[str, Any]()
    for limit in Settings.model_fields[field].metadata:
        limits |= {key: getattr(limit, key) for key in ("ge", "gt", "le") if hasattr(limit, key)}
    least, most = limits["ge"] if "ge" in limits else limits["gt"], limits["le"]
    for value in (most, *([least] if "ge" in limits else [])):
        monkeypatch.setenv(name, str(value))
        assert getattr(load(), field) == value
    for value in (most * 2, least - 1, "1e999", "9" * 400, "one"):
        monkeypatch.setenv(name, str(value))
        with pytest.raises(Misconfigured, match=f"^{name}: "):
            load()


def test_lists_ignore_spaces_and_duplicates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KURS_EXCHANGES", " deribit , binance,, deribit,")
    monkeypatch.setenv("KURS_SYMBOLS", "btc-usdt , BTC-USDT")
    monkeypatch.setenv("KURS_COINGECKO_IDS", " sol = solana , SOL=solana ")
    monkeypatch.setenv("CORS_ALLOWED_ORIGINS", "https://a.example , https://a.example")
    settings = load()
    assert settings.exchanges == ("deribit", "binance")
    assert settings.symbols == (Instrument("BTC", "USDT"),)
    assert settings.coingecko_ids == {"SOL": "solana"}
    assert settings.cors_allowed_origins == ("https://a.example",)


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfLOG_LEVEL=DEBUG\nKURS_FRESH_SECONDS=7\n",
        b"LOG_LEVEL=DEBUG\r\nKURS_FRESH_SECONDS=7\r\n",
        b"LOG_LEVEL=\"DEBUG\"\nKURS_FRESH_SECONDS='7'",
        b"export LOG_LEVEL=DEBUG\n  export KURS_FRESH_SECONDS = 7  # seconds\n",
        b"log_level=debug\nkurs_fresh_seconds=7\n",
    ],
)
def test_env_file_is_read_in_every_form_that_editors_and_shells_write(tmp_path: Path, text: bytes) -> None:
    (tmp_path / ".env").write_bytes(text)
    assert (load().log_level, load().fresh_seconds) == ("DEBUG", 7)


def test_env_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LOG_LEVEL=DEBUG\n", encoding="utf-16")
    with pytest.raises(Misconfigured, match=r"^\.env cannot be read: it is not UTF-8 text$"):
        load()


def test_misspelled_name_is_ignored_beside_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVL", "whatever")
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    assert load().log_level == "DEBUG"


@pytest.mark.parametrize(("ours", "port"), [("9001", 9001), ("", 9002)])
def test_port_of_the_platform_is_used_without_kurs_port(monkeypatch: pytest.MonkeyPatch, ours: str, port: int) -> None:
    monkeypatch.setenv("KURS_PORT", ours)
    monkeypatch.setenv("PORT", "9002")
    assert load().port == port


@pytest.mark.parametrize("origin", ["*", "http://localhost:5173", "https://page.example:8443", "http://[::1]:3000"])
def test_origin_as_browsers_send_it_is_accepted(monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    monkeypatch.setenv("CORS_ALLOWED_ORIGINS", origin)
    assert load().cors_allowed_origins == (origin,)


def test_log_levels_of_subsystems_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KURS_LOG_LEVELS", "collector.session=debug, pricer=WARNING")
    assert load().log_levels == {"collector.session": "DEBUG", "pricer": "WARNING"}


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("KURS_PORT", "eight", "KURS_PORT"),
        ("LOG_LEVEL", "LOUD", "LOG_LEVEL"),
        ("DATABASE_URL", f"mysql://kurs:{PASSWORD}@host/db", "sqlite+aiosqlite://"),
        ("KURS_DIRECTIONS", "BTC", "BASE-QUOTE"),
        ("KURS_ASSETS", "USDTTRC", "NAME=VALUE"),
        ("KURS_COINGECKO_KEY", f"CG-{PASSWORD}", "KURS_COINGECKO_PLAN"),
        ("DATABASE_URL_FILE", "/nowhere/at/all", "DATABASE_URL_FILE"),
        ("KURS_TRUSTED_PROXIES", "the-proxy", "KURS_TRUSTED_PROXIES"),
        ("KURS_DIRECTIONS", ",", "at least 1"),
        ("KURS_DIRECTIONS", "BTC-USD-PERPETUAL", "BASE-QUOTE"),
        ("KURS_FRESH_SECONDS", "inf", "less than or equal to 31536000"),
        ("REDIS_URL", f"redis://:{PASSWORD}@host:port/0", "not a URL"),
        ("RABBITMQ_URL", f"amqp://kurs:{PASSWORD}#1@host/", "not a URL"),
        ("KURS_COINGECKO_KEY_FILE", sys.executable, "not a text"),
        ("CORS_ALLOWED_ORIGINS", "https://page.example/", "without a path or / at the end"),
        ("CORS_ALLOWED_ORIGINS", "localhost:5173", "not an origin"),
        ("CORS_ALLOWED_ORIGINS", "https://*.page.example", "name each origin"),
        ("CORS_ALLOWED_ORIGINS", "https://page.example:443", "write https://page.example"),
        ("CORS_ALLOWED_ORIGINS", "http://page.example:80", "write http://page.example"),
        ("CORS_ALLOWED_ORIGINS", "https://Page.example", "write https://page.example"),
        ("CORS_ALLOWED_ORIGINS", "https://bücher.example", "write https://xn--bcher-kva.example"),
        ("KURS_ALLOWED_HOSTS", "https://kurs.example", "without scheme"),
        ("KURS_ALLOWED_HOSTS", "kurs.example:8000", "without scheme"),
        ("KURS_ALLOWED_HOSTS", "kurs.*", "write kurs.example"),
        ("KURS_LOG_LEVELS", "colector=DEBUG", "is not a module of Kurs: there are "),
        ("KURS_LOG_LEVELS", "collector=LOUD", "DEBUG"),
        ("KURS_SIMULATOR_URL", "simulator:8000", "http://"),
        ("KURS_DIRECTION", "BTC-USD", "did you mean KURS_DIRECTIONS"),
        ("KURS_DATABASE_URL", "postgresql+asyncpg://host/db", "did you mean DATABASE_URL"),
        ("API_RATE_LIMT", "60", "did you mean API_RATE_LIMIT"),
        ("LOG_LEVL", "DEBUG", "did you mean LOG_LEVEL"),
        ("DATABSE_URL", "postgresql+asyncpg://host/db", "did you mean DATABASE_URL"),
        ("DATABSE_URL_FILE", "/run/secrets/url", "did you mean DATABASE_URL"),
        ("REDIS_ULR", "redis://host/0", "did you mean REDIS_URL"),
        ("RABITMQ_URL", "amqp://host/", "did you mean RABBITMQ_URL"),
        ("RABBBITMQ_URL", "amqp://host/", "did you mean RABBITMQ_URL"),
        ("CORS_ALLOWED_ORIGIN", "https://page.example", "did you mean CORS_ALLOWED_ORIGINS"),
        ("WEBSOCKET_MAX_CONNECTIOSN", "10", "did you mean WEBSOCKET_MAX_CONNECTIONS"),
        ("API_RATELIMIT", "60", "did you mean API_RATE_LIMIT"),
        ("KURS_API_RATE_LIMIT", "60", "did you mean API_RATE_LIMIT"),
        ("KURS_HISTORY_BAR", "60", "did you mean KURS_HISTORY_BARS"),
        ("KURS_HISTORY", "60", "did you mean KURS_HISTORY_BARS"),
        ("KURS_STEADY_SECS", "60", "did you mean KURS_STEADY_SECONDS"),
        ("KURS_ZZZ", "60", ".env.example lists"),
        ("KURS_HTTPS_PROXY", "http://proxy.example", "did you mean HTTPS_PROXY"),
        ("HTPS_PROXY", "http://proxy.example", "did you mean HTTP"),
        ("PORT", "tcp://10.0.0.1:80", "PORT: Input should be a valid integer"),
        ("KURS_PORT", "tcp://10.0.0.1:80", "KURS_PORT: Input should be a valid integer"),
    ],
)
def test_wrong_setting_is_refused_with_its_name_and_without_a_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, part: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured) as refused:
        load()
    assert name in str(refused.value) or part in str(refused.value)
    assert name != "PORT" or str(refused.value).startswith("PORT: ")
    assert part in str(refused.value)
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [(["pircer"], "did you mean pricer"), (["binance"], "kurs collector binance"), (["api", "zzz"], "there are")],
)
def test_unknown_service_is_refused_with_a_suggestion(arguments: list[str], part: str) -> None:
    with pytest.raises(Misconfigured, match=part):
        parse_process(arguments, load())


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("KURS_EXCHANGES", "binance,kraken", "'kraken' is not one"),
        ("KURS_DIRECTIONS", "USDTTRC-USDTERC", "no exchange has"),
        ("KURS_DIRECTIONS", "BTC-USD,BTC-XYZ", "BTC-XYZ: XYZ is neither"),
        ("KURS_DIRECTIONS", "USD-RUB", "no exchange has"),
    ],
)
def test_direction_that_no_exchange_has_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, part: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured, match=f"{name}.*{part}"):
        parse_process([], load())


def test_contract_is_refused_without_the_exchange_that_has_contracts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KURS_SYMBOLS", "BTC-USDT,BTC-USD-PERPETUAL")
    parse_process([], load())
    monkeypatch.setenv("KURS_EXCHANGES", "binance,coingecko")
    with pytest.raises(Misconfigured, match=r"KURS_SYMBOLS: BTC-USD-PERPETUAL: only deribit"):
        parse_process([], load())


def test_coin_that_only_coingecko_can_have_is_refused_without_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KURS_DIRECTIONS", "SHIB-USD,BTC-PEPE")
    monkeypatch.setenv("KURS_COINGECKO_IDS", "PEPE=pepe")
    parse_process([], load())  # Binance may list it, which is known only later
    monkeypatch.setenv("KURS_EXCHANGES", "coingecko")
    with pytest.raises(Misconfigured, match=r"SHIB-USD.*KURS_COINGECKO_IDS"):
        parse_process([], load())
    monkeypatch.setenv("KURS_COINGECKO_IDS", "PEPE=pepe,SHIB=shiba-inu")
    parse_process([], load())


def test_arguments_select_services_and_exchanges() -> None:
    settings = load()
    assert parse_process([], settings).services == ("collector", "pricer", "writer", "analyst", "accounts", "api")
    assert parse_process(["collector", "deribit"], settings) == (("collector",), ("deribit",))
    assert parse_process(["api", "pricer"], settings).services == ("pricer", "api")
