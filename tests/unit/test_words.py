"""Prose and names use the words of the project."""

from pathlib import Path

import pytest

from tests import words


def test_no_file_uses_a_rejected_word() -> None:
    assert [f"{path.name}:{line}: {word}" for path in words.files() for line, word, _ in words.rejected(path)] == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (b'"""Whoever reads."""\n', [(1, b"Whoever")]),
        (b"told = heard = 1  # nobody reads names\n", [(1, b"nobody")]),
        (b"def _told(asked): ...\n", [(1, b"_told"), (1, b"asked")]),
        (b'x = """first\nsecond\nthe line is away"""\n', [(3, b"is away")]),
        (b'f"{told} of {heard}: nobody", b"who?"\n', [(1, b"nobody")]),
        (b'"""What else is there: everything else."""\n', []),
    ],
)
def test_rejected_words_are_found_in_comments_strings_and_names(
    source: bytes, expected: list[tuple[int, bytes]], tmp_path: Path
) -> None:
    path = tmp_path / "module.py"
    path.write_bytes(source)
    assert [(line, word.encode()) for line, word, _ in words.rejected(path)] == expected
