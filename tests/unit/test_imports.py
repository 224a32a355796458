"""What a process loads: arithmetic on arrays costs time and memory, and only those have it who need it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

HEAVY = ("numpy", "talib", "pandas", "pandas_ta_classic", "polars", "pyarrow", "services.archive.imports")
LOADED = """
import sys
from services import __main__, runtime
runtime.import_service(sys.argv[1])
print(*(name for name in sys.argv[2:] if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("service", "needed"),
    [("collector", ""), ("pricer", ""), ("writer", ""), ("analyst", "numpy talib"), ("simulator", "numpy")],
)
def test_a_process_loads_only_what_its_services_need(service: str, needed: str) -> None:
    command = [sys.executable, "-c", LOADED, service, *HEAVY]
    found = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  ourselves
    assert found.stdout.split() == needed.split()


def test_no_module_imports_a_test_module() -> None:
    importing = list[str]()
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tests"):
                names = [*node.module.split("."), *(alias.name for alias in node.names)]
                importing += [str(path) for name in names if name.startswith("test_")]
    assert not importing
