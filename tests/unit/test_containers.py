"""Facts about the compose files and the image that no other test would notice."""

import re
from typing import Any

import pytest

from services.command_line import parse_process
from services.core.markets import LIVE, SIMULATED
from services.settings import load
from tests import compose

SERVICES = compose.load_services()
KURS_SERVICES = {
    name: service for name, service in SERVICES.items() if "build" in service and "entrypoint" not in service
}
IMAGE = (compose.ROOT / "Dockerfile").read_text()
MIN_HEALTH_SECONDS = 300  # a busy machine needs that long to start everything


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - KURS_SERVICES.keys() - {"passwords"}))
def test_health_check_of_a_server_allows_for_a_busy_machine(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert seconds(check["start_period"]) >= MIN_HEALTH_SECONDS
    assert seconds(check["interval"]) * check["retries"] >= 60


def test_health_check_of_the_image_allows_for_a_busy_machine() -> None:
    found = re.search(r"HEALTHCHECK --interval=(\d+)s --timeout=(\d+)s --retries=(\d+) --start-period=(\d+)s", IMAGE)
    assert found
    interval, timeout, retries, start = map(int, found.groups())
    assert (start >= MIN_HEALTH_SECONDS, interval * retries >= 60, timeout >= 30) == (True, True, True)


@pytest.mark.parametrize(("name", "service"), KURS_SERVICES.items())
def test_container_of_the_image_has_an_existing_command(name: str, service: dict[str, Any]) -> None:
    program, *words = service["command"].split()
    assert program == "kurs"
    assert words == ["migrate"] or parse_process(words, load(_env_file=None)).services == (words[0],)


def test_market_setting_starts_the_simulator_container() -> None:
    (profile,) = SERVICES["simulator"]["profiles"]
    market = KURS_SERVICES["api"]["environment"]["KURS_MARKET"]
    assert compose.interpolate(market) == LIVE
    assert compose.interpolate(market, COMPOSE_PROFILES=profile) == SIMULATED


def test_public_url_has_the_port_on_the_host() -> None:
    named = [
        compose.interpolate(file["api"]["environment"]["KURS_PUBLIC_URL"], KURS_HTTP_PORT="81", KURS_HTTPS_PORT="444")
        for file in (SERVICES, compose.load_services("docker-compose.tls.yml"))
    ]
    assert named == ["http://localhost:81", "https://localhost:444"]


def test_every_service_can_join_the_outside_network() -> None:
    """Collectors always do, and the simulator needs no server."""
    outside = compose.load_services("docker-compose.servers.yml")
    inside = {name for name, service in KURS_SERVICES.items() if "outside" not in service["networks"]}
    assert outside.keys() == inside - {"simulator"}
    assert all(service == {"networks": ["outside"]} for service in outside.values())


def test_upgrade_script_restarts_every_service() -> None:
    script = (compose.ROOT / "docker/upgrade").read_text()
    roles = re.search(r"for service in (.+); do", script)
    exchanges = re.search(r"for exchange in (.+); do", script)
    assert roles
    assert exchanges
    named = [*roles[1].split(), *(f"collector-{exchange}" for exchange in exchanges[1].split())]
    assert sorted(named) == sorted(KURS_SERVICES.keys() - {"migrate", "simulator"})
