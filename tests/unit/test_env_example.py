""".env.example lists every setting of Kurs and of the compose files, with its default and description."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from services.settings import Settings
from services.settings.sources import environment_name
from tests.compose import VARIABLE

ROOT = Path(__file__).parents[2]
FIELDS = {environment_name(field, Settings): field for field in Settings.model_fields}
OTHER_NAMES = ("PORT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
IN_CONTAINERS = {
    "COMPOSE_PROFILES",
    "KURS_MARKET",
    "KURS_PUBLIC_URL",
    "KURS_REGISTRATION",
    "KURS_SIMULATOR_URL",
    "KURS_TRUSTED_PROXIES",
}  # have other defaults in containers, as the example explains


class ExampleSetting(NamedTuple):
    """One setting of the example: its default, and the comment before it."""

    value: str
    comment: str


def example_settings() -> dict[str, ExampleSetting]:
    """Return the settings of the example by name."""
    found: dict[str, ExampleSetting] = {}
    for block in (ROOT / ".env.example").read_text().split("\n\n"):
        lines = [line.removeprefix("# ") for line in block.splitlines()]
        named = [re.fullmatch(r"([A-Z][A-Z0-9_]+)=(.*)", line) for line in lines]
        comment = " ".join(line for line, name in zip(lines, named, strict=True) if not name)
        for name in filter(None, named):
            assert name[1] not in found
            found[name[1]] = ExampleSetting(name[2], comment)
    return found


def compose_defaults() -> dict[str, str]:
    """Return the environment variables of the compose files with their defaults."""
    text = "".join(path.read_text() for path in ROOT.glob("docker-compose*.yml"))
    variables = dict(VARIABLE.findall(text))
    return {**dict(VARIABLE.findall(" ".join(variables.values()))), **variables}  # a default may contain another one


def test_example_lists_exactly_the_settings_and_the_compose_variables() -> None:
    assert example_settings().keys() == FIELDS.keys() | compose_defaults().keys()


def test_variables_of_compose_are_no_misspelled_settings(tmp_path: Path) -> None:
    names = compose_defaults().keys() - FIELDS.keys()
    (tmp_path / ".env").write_text(
        "".join(f"{name}=1\n" for name in names if name.startswith("KURS_") and not name.endswith("_FILE"))
    )
    Settings(_env_file=tmp_path / ".env")


@pytest.mark.parametrize("name", FIELDS)
def test_example_has_the_description_and_default_of_each_setting(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for known in (*FIELDS, *OTHER_NAMES):
        monkeypatch.delenv(known, raising=False)
    field, entry = Settings.model_fields[FIELDS[name]], example_settings()[name]
    assert field.description
    assert field.description in entry.comment
    (tmp_path / ".env").write_text(f"{name}={entry.value}\n")
    assert getattr(Settings(_env_file=tmp_path / ".env"), FIELDS[name]) == field.default
    assert entry.value or not field.default  # an empty value means the default


@pytest.mark.parametrize("name", sorted(compose_defaults().keys() - IN_CONTAINERS))
def test_compose_default_equals_the_example(name: str) -> None:
    assert example_settings()[name].value == compose_defaults()[name]
