"""Where settings come from beside pydantic's own ways: secret files; and what is misspelt there."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import AliasChoices
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from services.core.errors import Misconfigured


def environment_name(field: str, settings: type[BaseSettings]) -> str:
    """The environment variable of a setting."""
    alias = settings.model_fields[field].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"KURS_{field.upper()}"


class SecretFiles(PydanticBaseSettingsSource):
    """`NAME_FILE=/path` gives NAME its value."""

    def __init__(self, settings_cls: type[BaseSettings], named: Mapping[str, str | None]) -> None:
        super().__init__(settings_cls)
        self._named = named

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        name = environment_name(field_name, self.settings_cls)
        path = self._named.get(f"{name}_FILE".lower())
        try:
            return (Path(path).read_text().strip() if path else None), name, False
        except OSError as error:
            raise Misconfigured(f"{name}_FILE: {error}") from error
        except UnicodeDecodeError:
            raise Misconfigured(f"{name}_FILE: {path} is not a text") from None

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(field, name)[:2] for name, field in self.settings_cls.model_fields.items()}
        return {
            key if self.settings_cls.model_fields[name].validation_alias else name: value
            for name, (value, key) in found.items()
            if value is not None
        }


def told(source: PydanticBaseSettingsSource) -> Mapping[str, str | None]:
    """What the environment or `.env` holds, by lower-case name."""
    return source.env_vars if isinstance(source, EnvSettingsSource) else {}


def refuse_misspelt(names: Iterable[str], settings: type[BaseSettings]) -> None:
    """A name that is nearly a setting's would be passed over. Raises Misconfigured."""
    known = [environment_name(field, settings).lower() for field in settings.model_fields]
    for name in names:
        near = get_close_matches(name.removesuffix("_file"), known, n=1, cutoff=0.9) if name.startswith("kurs_") else ()
        if near and near[0] != name.removesuffix("_file"):
            raise Misconfigured(f"{name.upper()} is no setting; did you mean {near[0].upper()}?")
