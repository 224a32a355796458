"""The OpenAPI document: stored in docs/, complete, with an example of every response."""

import json
from pathlib import Path

from jsonschema import Draft202012Validator

from services import api
from services.web import openapi_document

STORED = Path(__file__).parents[2] / "docs" / "openapi.json"
DESCRIPTION = openapi_document(api.ROUTERS, api.ENDPOINTS)
OPERATIONS = [operation for path in DESCRIPTION["paths"].values() for operation in path.values()]


def test_stored_document_is_current() -> None:
    stored = json.loads(STORED.read_text())
    assert stored == DESCRIPTION, "the API changed: run `make openapi`, and mind that v1 is frozen"


def test_schema_names_have_no_module_names() -> None:
    assert not [name for name in DESCRIPTION["components"]["schemas"] if not name.isalnum()]


def test_optional_query_parameters_are_not_nullable() -> None:
    parameters = [parameter for operation in OPERATIONS for parameter in operation.get("parameters", ())]
    assert parameters
    for parameter in parameters:
        assert "null" not in json.dumps(parameter["schema"].get("anyOf", parameter["schema"].get("type")))


def test_examples_match_their_schemas() -> None:
    schemas = DESCRIPTION["components"]["schemas"]
    examples = [
        ({"$ref": f"#/components/schemas/{name}"}, each["example"])
        for name, each in schemas.items()
        if "example" in each
    ]
    for operation in OPERATIONS:
        for answer in operation["responses"].values():
            for media in answer.get("content", {}).values():
                examples += [(media["schema"], media["example"])] if "example" in media else []
    assert len(examples) > 10
    for schema, example in examples:
        Draft202012Validator({**schema, "components": DESCRIPTION["components"]}).validate(example)


def test_operations_have_unique_ids_examples_and_problems() -> None:
    assert DESCRIPTION["openapi"].startswith("3.1")
    ids = [operation["operationId"] for operation in OPERATIONS]
    assert len(set(ids)) == len(ids)
    for operation in OPERATIONS:
        (success,) = (status for status in operation["responses"] if status.startswith("2"))
        for media in operation["responses"][success].get("content", {}).values():
            name = media["schema"].get("$ref", "").rpartition("/")[2]
            assert media.get("example") or DESCRIPTION["components"]["schemas"][name]["example"]
        assert success == "204" or len(operation["responses"][success]["content"]) == 1
        problems = [answer for status, answer in operation["responses"].items() if status >= "400"]
        assert {"$ref": "#/components/responses/TooManyRequests"} in problems
        assert all(answer.keys() == {"$ref"} for answer in problems)
    for response in DESCRIPTION["components"]["responses"].values():
        assert response["content"]["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert "Problem" in DESCRIPTION["components"]["schemas"]
