"""Settings of the log."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, field_validator
from pydantic_settings import NoDecode

from services.settings.parsing import parse_mapping, unprefixed

LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
    BeforeValidator(lambda word: word.upper() if isinstance(word, str) else word),
]


class LogSettings(BaseModel):
    """How much is logged."""

    log_level: LogLevel = Field(
        "INFO",
        validation_alias=unprefixed("LOG_LEVEL"),
        description="The log level: DEBUG, INFO, WARNING, ERROR or CRITICAL",
    )
    log_levels: Annotated[dict[str, LogLevel], NoDecode, BeforeValidator(parse_mapping)] = Field(
        {}, description="Log levels of single modules: collector=DEBUG,pricer=WARNING"
    )

    @field_validator("log_levels")
    @classmethod
    def _check_log_levels(cls, value: dict[str, LogLevel]) -> dict[str, LogLevel]:
        modules = sorted(path.stem for path in Path(__file__).parents[1].glob("[a-z]*"))
        if wrong := [name for name in value if name.partition(".")[0] not in modules]:
            raise ValueError(f"{wrong[0]!r} is not a module of Kurs: there are {', '.join(modules)}")
        return value
