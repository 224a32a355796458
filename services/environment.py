"""Where settings come from beside pydantic's own ways: secret files; and what is misspelt there."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import AliasChoices
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from services.core.errors import Misconfigured

PREFIX = "kurs_"
FOREIGN = frozenset({"loglevel"})  # names that other programs have, although they are nearly ours


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
    given = {name.removesuffix("_file"): name for name in names}
    for plain, name in given.items():
        meant = None if plain in known else _ours(plain, known) if plain.startswith(PREFIX) else _other(plain, known)
        if meant and (plain.startswith(PREFIX) or meant not in given):
            raise Misconfigured(f"{name.upper()} is no setting; did you mean {meant.upper()}?")


def _ours(name: str, known: Sequence[str]) -> str | None:
    """The setting that a prefixed name nearly is, or is but for the prefix."""
    if (bare := name.removeprefix(PREFIX)) in known:
        return bare
    return next(iter(get_close_matches(name, known, n=1, cutoff=0.9)), None)


def _other(name: str, known: Iterable[str]) -> str | None:
    """The setting without our prefix that a name is one slip of the keyboard away from.

    The environment is full of other programs' names. What has more at its end, or another last letter, is another word:
    LOG_LEVEL2, REDIS_URI.
    """
    if name in FOREIGN:
        return None
    return next((each for each in known if not each.startswith(PREFIX) and _slip(name, each)), None)


def _slip(name: str, meant: str) -> bool:
    """Whether a letter is missing, doubled, wrong or exchanged with the next one."""
    same = 0
    while name[same : same + 1] == meant[same : same + 1] != "":
        same += 1
    rest, due = name[same:], meant[same:]
    exchanged = rest[1::-1] + rest[2:] == due and rest != due
    return exchanged or rest == due[1:] or (len(rest) > 1 and (rest[1:] in (due, due[1:])))
