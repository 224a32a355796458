"""What docker-compose.yml gives each container: its own secrets, and bounds."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
SERVERS = ("postgres", "redis", "rabbitmq")
SERVICES = ("pricer", "writer", "analyst", "accounts", "api", "migrate")
KEYS = {"KURS_MASTER_KEY": "accounts", "KURS_TOKEN_KEY": "api"}  # the one service that has each
WITHOUT_SECRETS = ("simulator", "nginx")


def containers() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return found


def secrets(container: dict[str, Any]) -> dict[str, str]:
    """Return the secret volumes that a container mounts, with their mount points."""
    mounts = [volume.split(":") for volume in container.get("volumes", ()) if "-secret:" in volume]
    return {name.removesuffix("-secret"): ":".join(target) for name, *target in mounts}


def test_containers_have_only_their_own_secrets() -> None:
    all_containers = containers()
    expected = {name: {name: f"/run/secrets/{name}:ro"} for name in SERVERS}
    expected |= {name: {name: "/run/secrets/kurs:ro"} for name in SERVICES}
    collectors = [name for name in all_containers if name.startswith("collector-")]
    expected |= {name: {"collector": "/run/secrets/kurs:ro"} for name in collectors}
    expected |= {name: {} for name in WITHOUT_SECRETS}
    every = (*SERVERS, *SERVICES, "collector")
    expected["passwords"] = {name: f"/accounts/{name}" for name in every}
    assert {name: secrets(container) for name, container in all_containers.items()} == expected
    for name in (*collectors, "simulator"):
        environment = all_containers[name]["environment"]
        assert (environment["DATABASE_URL"], environment["DATABASE_URL_FILE"]) == ("bus://", "")


def test_every_container_has_a_process_limit_and_no_capabilities() -> None:
    for name, container in containers().items():
        assert container["pids_limit"] >= 256, name
        assert (container["cap_drop"], container["read_only"]) == (["ALL"], True), name
        assert container["security_opt"] == ["no-new-privileges:true"], name


def test_key_of_people_is_given_to_its_service_alone() -> None:
    """An env_file gives all of `.env` to every container, so the others have an empty value instead."""
    for name, container in containers().items():
        environment = container.get("environment", {})
        for variable, service in KEYS.items():
            given = [environment.get(each) for each in (variable, f"{variable}_FILE")]
            if name == service:
                file = f"/run/secrets/kurs/{variable.removeprefix('KURS_').lower().replace('_', '-')}"
                assert given == [f"${{{variable}:-}}", f"${{{variable}_FILE-{file}}}"]
            else:
                assert given == (["", ""] if "env_file" in container else [None, None]), name


def test_api_has_no_way_to_the_internet_and_accounts_has() -> None:
    known = containers()
    assert known["api"]["networks"] == ["inside", "edge"]
    assert known["accounts"]["networks"] == ["inside", "outside"]
