"""Sources of settings that pydantic does not have, secret files and lower-case proxies, and the check of misspelled
names.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import AliasChoices
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from services.core.errors import Misconfigured

PREFIX = "kurs_"
FOREIGN_NAMES = frozenset({"loglevel", "go_proxy"})  # names of other programs that are one letter away from ours
COMPOSE_NAMES = frozenset(
    {"kurs_bind", "kurs_extras", "kurs_http_port", "kurs_https_port", "kurs_tls_dir", "kurs_api_replicas"}
)
# Kubernetes sets these for services whose names begin with "kurs".
KUBERNETES_NAME = re.compile(r"kurs_(\w+_)?(service_host|service_port(_\w+)?|\w+_port|port_\d+_(tcp|udp|sctp)(_\w+)?)")


def environment_name(field: str, settings: type[BaseSettings]) -> str:
    """Return the environment variable of a setting."""
    alias = settings.model_fields[field].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"KURS_{field.upper()}"


def variable_in_use(name: str, settings: type[BaseSettings]) -> str:
    """Return the variable that a setting's value is from: PORT where KURS_PORT is not set.

    `name`: the field or its first alias, as pydantic's errors have it.
    """
    for field, info in settings.model_fields.items():
        first, alias = environment_name(field, settings), info.validation_alias
        if name in (field, first):
            names = map(str, alias.choices if isinstance(alias, AliasChoices) else ())
            return next(filter(os.environ.get, names), first)
    return name


class SecretFileSource(PydanticBaseSettingsSource):
    """Source of settings from files: `NAME_FILE=/path` gives NAME the file's text."""

    def __init__(self, settings_cls: type[BaseSettings], named: Mapping[str, str | None]) -> None:
        super().__init__(settings_cls)
        self._raw_values = named

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        name = environment_name(field_name, self.settings_cls)
        path = self._raw_values.get(f"{name}_FILE".lower())
        try:
            return (Path(path).read_text().strip() if path else None), name, False
        except OSError as error:
            raise Misconfigured(f"{name}_FILE: {error}") from error
        except UnicodeDecodeError:
            raise Misconfigured(f"{name}_FILE: {path} is not a text file") from None

    def __call__(self) -> dict[str, Any]:
        values = {name: self.get_field_value(field, name)[:2] for name, field in self.settings_cls.model_fields.items()}
        return {
            key if self.settings_cls.model_fields[name].validation_alias else name: value
            for name, (value, key) in values.items()
            if value is not None
        }


class LowerCaseProxySource(PydanticBaseSettingsSource):
    """Source of lower-case proxy variables: `https_proxy` precedes `HTTPS_PROXY`, as in curl. Empty: no proxy."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return os.environ.get(field_name), environment_name(field_name, self.settings_cls), False

    def __call__(self) -> dict[str, Any]:
        fields = {name: field for name, field in self.settings_cls.model_fields.items() if name.endswith("_proxy")}
        values = (self.get_field_value(field, name)[:2] for name, field in fields.items())
        return {name: value for value, name in values if value is not None}


def raw_values(source: PydanticBaseSettingsSource) -> Mapping[str, str | None]:
    """Return the texts in the environment or `.env` by lower-case name."""
    return source.env_vars if isinstance(source, EnvSettingsSource) else {}


def reject_misspelled(names: Iterable[str], settings: type[BaseSettings]) -> None:
    """Raise Misconfigured for a name that would be ignored: one with our prefix, or one typo away from a setting."""
    settings_names = [environment_name(field, settings).lower() for field in settings.model_fields]
    given = {name if name in settings_names else name.removesuffix("_file"): name for name in names}
    for plain, name in given.items():
        if plain in settings_names:
            continue
        if plain.startswith(PREFIX):
            if name not in COMPOSE_NAMES and not KUBERNETES_NAME.fullmatch(name):
                raise Misconfigured(f"{name.upper()} is not a setting; {_hint(plain, settings_names)}")
        elif (meant := _misspelled_setting(plain, settings_names)) and meant not in given:
            raise Misconfigured(f"{name.upper()} is not a setting; did you mean {meant.upper()}?")


def _hint(name: str, settings_names: Sequence[str]) -> str:
    """Return a suggestion for a name with our prefix. The prefix itself may be the mistake."""
    bare = name.removeprefix(PREFIX)
    near = [bare] if bare in settings_names else get_close_matches(name, settings_names, n=1, cutoff=0.7)
    return f"did you mean {near[0].upper()}?" if near else ".env.example lists all settings"


def _misspelled_setting(name: str, settings_names: Iterable[str]) -> str | None:
    """Return the setting without our prefix that a name is one typo away from.

    The environment is full of other programs' names, so an added or different last letter is not a typo: LOG_LEVEL2,
    REDIS_URI.
    """
    if name in FOREIGN_NAMES:
        return None
    return next((each for each in settings_names if not each.startswith(PREFIX) and _is_one_typo(name, each)), None)


def _is_one_typo(name: str, meant: str) -> bool:
    """Return whether one letter is missing, added, wrong or swapped with the next one."""
    same = 0
    while name[same : same + 1] == meant[same : same + 1] != "":
        same += 1
    typed, expected = name[same:], meant[same:]
    exchanged = typed[1::-1] + typed[2:] == expected and typed != expected
    return exchanged or typed == expected[1:] or (len(typed) > 1 and (typed[1:] in (expected, expected[1:])))
