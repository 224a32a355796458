"""Finds words that Kurs does not use: `python -m tests.words` lists them, with what to write instead.

tests/rejected_words.toml contains the words. Of Python files the comments, strings and names are checked, of other
files the whole text. Bytes are exempt: a test that quotes a rejected word writes it as bytes. CONTRIBUTING.md has the
rules.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LISTS = tomllib.loads((ROOT / "tests/rejected_words.toml").read_text())
REJECTED: dict[str, str] = LISTS["prose"]
REJECTED_NAMES = set(LISTS["names"]["rejected"])
PATTERN = re.compile("|".join(rf"(?P<w{n}>\b(?:{word})\b)" for n, word in enumerate(REJECTED)), re.IGNORECASE)
EXPRESSION = re.compile(r"\{[^{}]*\}")  # of an f-string, before Python 3.12
INSTEAD = list(REJECTED.values())
TEXTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", ".env.example", "Dockerfile", "docker-compose*.yml")
FOLDERS = ("services", "docs", "migrations", "nginx", "tests", "loadtest")
SUFFIXES = {".py", ".md", ".conf", ".yml", ".yaml", ".c", ".mjs", ".lua", ".html"}


def main() -> int:
    """List every rejected word. Return 1 when there is one."""
    lines = [
        f"{path.relative_to(ROOT)}:{line}: {word}: write {instead}\n"
        for path in files()
        for line, word, instead in rejected(path)
    ]
    sys.stdout.writelines(lines)
    return 1 if lines else 0


def files() -> list[Path]:
    """Return the files that are checked."""
    command = ["git", "ls-files", *TEXTS, *FOLDERS]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()  # noqa: S603
    return [ROOT / name for name in names if "/" not in name or Path(name).suffix in SUFFIXES]


def rejected(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line, word and replacement of each rejected word of a file."""
    text = path.read_text()
    for number, prose in python_prose(text) if path.suffix == ".py" else enumerate(text.split("\n"), 1):
        for match in PATTERN.finditer(prose):
            line = number + prose.count("\n", 0, match.start())
            yield line, match[0], INSTEAD[int((match.lastgroup or "w0")[1:])]
    if path.suffix == ".py":
        for line, name in names(text):
            if REJECTED_NAMES & set(re.findall("[a-z]+", re.sub("([A-Z])", r"_\1", name).lower())):
                yield line, name, "a noun of docs/glossary.md"


def python_prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield comments and strings of a Python file, each with its first line."""
    middle = getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)  # what 3.12 makes of an f-string
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        prefix = token.string[:2].lower()
        if token.type not in {tokenize.COMMENT, tokenize.STRING, middle} or prefix in {'b"', "b'", "rb", "br"}:
            continue
        is_format = token.type == tokenize.STRING and prefix[:1] == "f"
        yield token.start[0], EXPRESSION.sub(" ", token.string) if is_format else token.string


def names(source: str) -> Iterator[tuple[int, str]]:
    """Yield names of functions, classes, parameters and attributes of a Python file, each with its line."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name


if __name__ == "__main__":
    sys.exit(main())
