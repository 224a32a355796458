"""Words that prose does not use: tests/words.py has the list."""

from pathlib import Path

import pytest

from tests import words


def test_no_file_uses_a_rejected_word() -> None:
    assert [f"{path.name}:{line}: {word}" for path in words.files() for line, word, _ in words.rejected(path)] == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('"""Whoever reads."""\n', [(1, "Whoever")]),
        ("told = heard = 1  # nobody reads names\n", [(1, "nobody")]),
        ("def _told(asked): ...\n", [(1, "_told"), (1, "asked")]),
        ('x = """first\nsecond\nthe line is away"""\n', [(3, "is away")]),
        ('f"{told} of {heard}: nobody", b"who?"\n', [(1, "nobody")]),
        ('"""What else is there: everything else."""\n', []),
    ],
)
def test_comments_and_strings_of_python_are_read(source: str, expected: list[tuple[int, str]], tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(source)
    assert [(line, word) for line, word, _ in words.rejected(path)] == expected
