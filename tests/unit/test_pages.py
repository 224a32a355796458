"""Classes, modules, links and indicators that the documentation names exist."""

import re
from pathlib import Path

import pytest

from services.core.indicators import STANDARD, parse_specs

ROOT = Path(__file__).parents[2]
SOURCE = "\n".join(path.read_text() for path in (ROOT / "services").rglob("*.py"))
ROWS = re.findall(r"^\| \*\*(.+?)\*\*.* \| `([A-Z][a-z]\w*)` \|", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
MODULE = re.compile(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|toml|yml|md))`")


@pytest.mark.parametrize(("term", "name"), ROWS)
def test_class_in_the_glossary_exists(term: str, name: str) -> None:
    assert re.search(rf"^(class )?{name}\b", SOURCE, re.MULTILINE), term


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_modules_on_a_page_exist(page: Path) -> None:
    text = page.read_text()
    for link in LINK.findall(text):
        assert (page.parent / link).exists(), link
    for module in MODULE.findall(text):
        assert any((folder / module).exists() for folder in (ROOT, ROOT / "services")), module


def test_page_of_indicators_lists_the_standard_set() -> None:
    page = (ROOT / "docs/indicators.md").read_text()
    section = page.split("## The standard set\n")[1].split("\n## ")[0]
    listed = [word for line in section.splitlines() if line.startswith("    ") for word in line.split()]
    assert parse_specs(",".join(listed)) == STANDARD
