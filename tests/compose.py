"""The project's compose files: services, interpolation, and scripts of containers."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
VARIABLE = re.compile(r"\$\{(\w+)(?::?-((?:[^{}]|\$\{[^}]*\})*)|:\?[^}]*)?\}")  # a default may contain another one


def load_services(file: str = "docker-compose.yml") -> dict[str, Any]:
    """Return the services by name, without interpolation."""
    known: dict[str, Any] = yaml.safe_load((ROOT / file).read_text())["services"]
    return known


def interpolate(text: str, **env: str) -> str:
    """Interpolate a text as Compose does, with these variables. `$$` is a `$` for the container."""

    def value(found: re.Match[str]) -> str:
        return env.get(found[1]) or interpolate(found[2] or "", **env)

    return "$".join(VARIABLE.sub(value, part) for part in text.split("$$"))


def container_script(file: str, service: str, **env: str) -> str:
    """Return the script that a service's shell runs."""
    return interpolate(str(load_services(file)[service]["command"][-1]), **env)
