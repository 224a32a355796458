"""schemathesis over the whole description of a running Kurs: no server error, and nothing that is not described."""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from tests.system import FAST_SETTINGS, System, single_process
from tests.waiting import wait_until

LIMITED = ("SIGN_IN", "REGISTRATION", "REFRESH", "PERSON", "UNAUTHENTICATED", "TICKET")
NO_LIMITS = {"API_RATE_LIMIT": "0", **{f"KURS_{name}_RATE_LIMIT": "0" for name in LIMITED}}
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
ENDLESS, SIMULATOR = "/v1/stream", "/simulator/"  # a stream has no end; faults of the simulator are wanted
FEW = settings(  # of each operation and mode: about 300 requests
    max_examples=4,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
PASSWORD = "correct horse battery staple"
FIRST_ADMIN = re.compile(r"there is no admin yet.*(kurs_i_\w+)")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("kurs")
    with single_process(folder, {**FAST_SETTINGS, **NO_LIMITS}) as system:
        log = system.processes["kurs"].folder / "log"
        wait_until(lambda: FIRST_ADMIN.search(log.read_text()), "code for the first admin")
        (code,) = FIRST_ADMIN.findall(log.read_text())
        root = {"name": "root", "password": PASSWORD, "invitation": code}
        assert requests.post(f"{system.url}/v1/persons", json=root, timeout=20).status_code == 201
        yield system


def admin(system: System) -> dict[str, str]:
    """Return the headers of an admin that has just signed in: the operation before may have ended the last sign-in."""
    body = {"name": "root", "password": PASSWORD}
    signed_in = requests.post(f"{system.url}/v1/sign-in", json=body, timeout=20).json()
    return {"authorization": f"Bearer {signed_in['access_token']}"}


def attack(operation: Any, mode: GenerationMode, headers: dict[str, str], seen: set[int]) -> None:
    """Send generated requests of an operation. The statuses of the responses are added to `seen`."""

    def send(case: Any) -> None:
        response = case.call(headers=headers, timeout=20)
        seen.add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    with suppress(Unsatisfiable):  # every value of its parameters is accepted
        examples: Any = given(operation.as_strategy(generation_mode=mode))
        FEW(examples(send))()


def test_nothing_that_is_sent_is_a_server_error_or_undocumented(system: System) -> None:
    statuses = dict[str, set[int]]()
    for found in schemathesis.openapi.from_url(f"{system.url}/openapi.json").get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]  # an error ends the test
        raw = operation.definition.raw
        if operation.path == ENDLESS or operation.path.startswith(SIMULATOR):
            continue
        has_input = bool(raw.get("parameters")) or "requestBody" in raw
        for mode in (GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if has_input else [])):
            headers = admin(system) if "security" in raw else {}
            attack(operation, mode, headers, statuses.setdefault(operation.label, set()))
    assert len(statuses) > 35
    assert any(200 in seen for seen in statuses.values())
