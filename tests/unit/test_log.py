"""Logging: one JSON object per line, without secrets."""

import importlib
import io
import json
import logging
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

import services
from services import log


@pytest.fixture
def lines() -> Iterator[Any]:
    stream = io.StringIO()
    before, level = list(logging.root.handlers), logging.root.level
    log.setup("INFO", {"collector": "DEBUG", "writer": "ERROR"}, secrets=["correct horse"], stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logging.root.handlers[:], logging.root.level = before, level
    for name in ("services", "services.collector", "services.writer"):
        logging.getLogger(name).setLevel(logging.NOTSET)


SECRET = "s3cr3tValue"


@pytest.mark.parametrize(
    "text",
    [
        f"connecting to amqp://kurs:{SECRET}@rabbitmq:5672/",
        f"redis://:{SECRET}@cache",
        f"GET /x?x_cg_pro_api_key={SECRET}&ids=bitcoin",
        f"Authorization: Bearer {SECRET}.abc-def",
        f"X-MBX-APIKEY: {SECRET}",
        f'{{"api_key": "{SECRET}", "password":"{SECRET}"}}',
        f"signature={SECRET}",
        f"token: {SECRET}",
        f"key CG-{SECRET} was refused",
        "passphrase is correct horse",
        f"GET /v1/stream?channels=rates&ticket={SECRET} 401",
        f"GET /v1/stream?x=kurs_t_{SECRET}AAAAAAAAAAAAAAAAAAAAAAAA&y=1",
        f"'kurs_r_{SECRET}…' was refused",
        f"of token%3Dkurs_p_{SECRET}",
        f"eyJhbGciOiJFZERTQSJ9.{SECRET}",
        f"eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIx.{SECRET}-_",
        f"$argon2id$v=19$m=65536,t=3,p=4${SECRET}$abc+/",
    ],
)
def test_secrets_are_hidden_in_messages_extras_and_tracebacks(lines: Any, text: str) -> None:
    logger = logging.getLogger("services.test")
    logger.info(text)
    logger.info("with %s", text, extra={"where": text, "deep": {"in": [text]}})
    try:
        raise ValueError(text)
    except ValueError:
        logger.exception("failed")
    written = json.dumps(lines())
    assert SECRET not in written
    assert "correct horse" not in written
    assert log.MASK in written


def test_field_with_a_secret_name_is_masked(lines: Any) -> None:
    logging.getLogger("services.test").info("signed in", extra={"password": SECRET, "access_token": 42, "tokens": 7})
    (line,) = lines()
    assert (line["password"], line["access_token"], line["tokens"]) == (log.MASK, log.MASK, 7)


def test_text_without_secrets_is_logged_unchanged(lines: Any) -> None:
    text = (
        "in use: deribit (binance: stale, BTC-USDT from binance is 6.0 s old); see http://localhost:8000/v1/courses; "
    )
    text += "kurs_task_seconds, token kurs_p_Ab12 of ann, tickets: 3"
    logging.getLogger("services.test").info(text)
    assert lines()[0]["message"] == text


def test_line_has_time_level_subsystem_request_and_extras(lines: Any) -> None:
    token = log.request_id.set("abc-1")
    logging.getLogger("services.test").warning("slow", extra={"seconds": 1.5})
    log.request_id.reset(token)
    (line,) = lines()
    assert line.pop("time").endswith("Z")
    expected = {"level": "WARNING", "logger": "services.test", "message": "slow", "seconds": 1.5, "request_id": "abc-1"}
    assert line == expected


def test_log_level_is_set_per_subsystem(lines: Any) -> None:
    for name in ("collector", "pricer", "writer"):
        for level in (logging.DEBUG, logging.INFO, logging.ERROR):
            logging.getLogger(f"services.{name}").log(level, name)
    logged = [(line["logger"], line["level"]) for line in lines()]
    assert logged == [
        ("services.collector", "DEBUG"),
        ("services.collector", "INFO"),
        ("services.collector", "ERROR"),
        ("services.pricer", "INFO"),
        ("services.pricer", "ERROR"),
        ("services.writer", "ERROR"),
    ]


def test_every_logger_is_named_after_its_module(lines: Any) -> None:
    """A logger outside the package would have the level of other packages, and no name in KURS_LOG_LEVELS."""
    names = set()
    for module in pkgutil.walk_packages(services.__path__, "services."):
        if module.name not in ("services.__main__", "services.healthcheck"):  # these run when they are imported
            values = vars(importlib.import_module(module.name)).values()
            names |= {value.name for value in values if isinstance(value, logging.Logger)}
    assert "services.adapters.retry" in names
    assert {name for name in names if not name.startswith("services.")} == set()


def test_log_level_of_adapters_is_set_apart_from_other_loggers() -> None:
    stream, before, level = io.StringIO(), list(logging.root.handlers), logging.root.level
    try:
        log.setup("WARNING", {"adapters": "INFO"}, stream=stream)
        logging.getLogger("services.adapters.retry").info("available")
        logging.getLogger("services.pricer.jobs").info("left out")
        assert json.loads(stream.getvalue())["message"] == "available"
        assert logging.getLogger("aiormq").level == logging.CRITICAL
    finally:
        logging.root.handlers[:], logging.root.level = before, level
        for name in ("services", "services.adapters"):
            logging.getLogger(name).setLevel(logging.NOTSET)
