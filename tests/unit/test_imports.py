"""A process imports only what its services need, because numpy and other libraries cost time and memory."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

EXPENSIVE = ("numpy", "talib", "pandas", "pandas_ta_classic", "polars", "pyarrow", "services.archive.imports")
PRINT_IMPORTED = """
import sys
from services import __main__, runtime
runtime.import_service(sys.argv[1])
print(*(name for name in sys.argv[2:] if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("service", "needed"),
    [("collector", ""), ("pricer", ""), ("writer", ""), ("analyst", "numpy talib"), ("simulator", "numpy")],
)
def test_service_imports_only_the_expensive_modules_it_needs(service: str, needed: str) -> None:
    command = [sys.executable, "-c", PRINT_IMPORTED, service, *EXPENSIVE]
    imported = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    assert imported.stdout.split() == needed.split()


def test_no_module_imports_a_test_module() -> None:
    importing = list[str]()
    for path in (path for folder in ("tests", "loadtest") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names]
                if isinstance(node, ast.ImportFrom):
                    names.append(node.module or "")
                parts = (part for name in names for part in name.split("."))
                importing += [f"{path}:{node.lineno}" for part in parts if part.startswith("test_")]
    assert not importing
