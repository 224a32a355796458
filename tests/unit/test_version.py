"""One version: the package's, which the changelog begins with; and one version of each package that is installed."""

import re
import sys
from pathlib import Path

import pytest

from services import __version__
from services.__main__ import main

ROOT = Path(__file__).parents[2]


def pins(name: str) -> set[str]:
    """Every pinned package of a file of requirements, with its markers."""
    return set(re.findall(r"^(\S+==[^\\]+?) *\\?$", (ROOT / name).read_text(), re.MULTILINE))


def test_the_changelog_begins_with_the_version_of_the_package() -> None:
    section = re.search(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text() + " ", re.MULTILINE)
    assert section
    assert section[1] == __version__


def test_make_run_installs_the_versions_that_the_tests_run_with() -> None:
    assert pins("requirements.txt")
    assert pins("requirements.txt") <= pins("requirements-dev.txt")


def test_no_file_of_requirements_names_an_index() -> None:
    for name in ("requirements.txt", "requirements-dev.txt", "pyproject.toml"):
        assert not re.search(r"index-url|find-links|https?://", (ROOT / name).read_text()), name


def test_the_command_prints_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["kurs", "--version"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().out) == (0, f"kurs {__version__}\n")
