"""The API's description: stored, complete, with an example in every answer."""

import json
from pathlib import Path

from services import api
from services.web import describe

STORED = Path(__file__).parents[2] / "docs" / "openapi.json"
DESCRIPTION = describe(api.ROUTERS)
OPERATIONS = [operation for path in DESCRIPTION["paths"].values() for operation in path.values()]


def test_the_stored_copy_is_current() -> None:
    stored = json.loads(STORED.read_text())
    assert stored == DESCRIPTION, "the API changed: run `make openapi`, and mind that v1 is frozen"


def test_operations_have_stable_ids_examples_and_problems() -> None:
    assert DESCRIPTION["openapi"].startswith("3.1")
    ids = [operation["operationId"] for operation in OPERATIONS]
    assert len(set(ids)) == len(ids)
    for operation in OPERATIONS:
        (media,) = operation["responses"]["200"]["content"].values()
        name = media["schema"].get("$ref", "").rpartition("/")[2]
        assert media.get("example") or DESCRIPTION["components"]["schemas"][name]["example"]
        assert "422" not in operation["responses"]
        assert "application/problem+json" in operation["responses"]["default"]["content"]
    assert "Problem" in DESCRIPTION["components"]["schemas"]
