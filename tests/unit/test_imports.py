"""What a process loads: arithmetic on arrays costs time and memory, and only those have it who need it."""

import subprocess
import sys

import pytest

HEAVY = ("numpy", "talib", "pandas", "pandas_ta_classic", "polars", "pyarrow")
LOADED = """
import sys
from services import runtime
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
