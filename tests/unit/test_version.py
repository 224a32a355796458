"""The version of Kurs, and the pinned versions of its dependencies."""

import re
import sys
from pathlib import Path

import pytest

from services import __version__
from services.__main__ import main

ROOT = Path(__file__).parents[2]


def pins(name: str) -> dict[str, str]:
    """Return every pinned package of a requirements file, with its marker."""
    return dict(re.findall(r"^(\S+==\S+)(?: ; ([^\\]+?))? *\\?$", (ROOT / name).read_text(), re.MULTILINE))


def test_changelog_begins_with_the_version_of_the_package() -> None:
    section = re.search(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text() + " ", re.MULTILINE)
    assert section
    assert section[1] == __version__


def test_runtime_requirements_are_among_the_development_requirements() -> None:
    development = pins("requirements-dev.txt")
    assert pins("requirements.txt")
    for package, marker in pins("requirements.txt").items():
        assert development[package] in ("", marker), package


def test_requirements_name_no_package_index() -> None:
    for name in ("requirements.txt", "requirements-dev.txt", "pyproject.toml"):
        assert not re.search(r"index-url|find-links|https?://", (ROOT / name).read_text()), name


def test_command_prints_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["kurs", "--version"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().out) == (0, f"kurs {__version__}\n")
