"""Logging: one JSON object per line, readable on a terminal, and no secret in either."""

import json
import logging
import re
import sys
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import TextIO

request_id: ContextVar[str] = ContextVar("request_id", default="")

PACKAGE = __name__.partition(".")[0]
MASK = "***"
SECRET_NAMES = r"api[_-]?key|secret|passw(?:or)?d|token|ticket|signature|authorization|x-mbx-apikey"  # noqa: S105
SECRET_NAME = re.compile(f"(?i)({SECRET_NAMES})$")  # `access_token`, but not `tokens`
TOKENS = re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]*)*|kurs_[a-z]_[0-9A-Za-z]{5,}")  # JSON web tokens, or a part; Kurs's own
SECRET_PATTERNS = (
    TOKENS,
    re.compile(r"(?<=://)[^\s/@]*:[^\s/@]*(?=@)"),  # the credentials of a URL
    re.compile(r"(?i)(?<=bearer )[\w.~+/=-]+|(?<=basic )[\w+/=]{8,}"),
    re.compile(r"\$argon2id\$[\w$=,+/]+"),  # a password's hash
    re.compile(r"\bCG-\w{8,}"),  # a CoinGecko key
    re.compile(rf"""(?i)(?:{SECRET_NAMES})["']?\s*[=:]\s*["']?(?P<secret>(?!bearer|basic)[^\s"'&,;}}]+)"""),
)
STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Redaction(logging.Filter):
    """Filter that masks the given secrets and everything that looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._secrets = sorted((s for s in secrets if s), key=len, reverse=True)

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask secrets in the record, which is always logged."""
        record.msg, record.args = self.redact(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        record.exc_text = self.redact(record.exc_text) if record.exc_text else None
        for name in vars(record).keys() - STANDARD_FIELDS:
            value = getattr(record, name)
            plain = isinstance(value, int | float | None)
            setattr(record, name, MASK if SECRET_NAME.search(name) else value if plain else self.redact(str(value)))
        return True

    def redact(self, text: str) -> str:
        """Return the text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        for pattern in SECRET_PATTERNS:
            text = pattern.sub(_mask, text)
        return text


def mask_tokens(text: str) -> str:
    """Return a text from a client, such as a path, without tokens that it has put there by mistake."""
    return TOKENS.sub(MASK, text)


def _mask(match: re.Match[str]) -> str:
    if "secret" not in match.groupdict():
        return MASK
    start, end = match.start("secret") - match.start(), match.end("secret") - match.start()
    return match.group()[:start] + MASK + match.group()[end:]


class JsonLines(logging.Formatter):
    """Formatter of a record as one JSON object; `extra` fields stand beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **{name: getattr(record, name) for name in vars(record).keys() - STANDARD_FIELDS},
        }
        if identifier := request_id.get():
            line["request_id"] = identifier
        if record.exc_text:
            line["error"] = record.exc_text
        return json.dumps(line, default=str, ensure_ascii=False)


def setup(level: str, levels: Mapping[str, str], secrets: Iterable[str] = (), stream: TextIO | None = None) -> None:
    """Log to `stream` (standard output) at `level`, and single modules of Kurs (`collector`) at their own level.

    Other packages log from WARNING on.
    """
    stream = stream or sys.stdout
    handler = logging.StreamHandler(stream)
    readable = logging.Formatter("%(asctime)s %(levelname)-8s %(name)s  %(message)s", "%H:%M:%S")
    handler.setFormatter(readable if stream.isatty() else JsonLines())
    handler.addFilter(Redaction(secrets))
    logging.basicConfig(level=max(logging.getLevelName(level), logging.WARNING), handlers=[handler], force=True)
    logging.getLogger(PACKAGE).setLevel(level)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns of each invalid request
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # it logs each failed attempt to connect, which we throttle
    for name, its_level in levels.items():
        logging.getLogger(f"{PACKAGE}.{name}").setLevel(its_level)
