"""The project's compose files, as a container's shell and a test meet them."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
VARIABLE = re.compile(r"\$\{(\w+)(?::?-((?:[^{}]|\$\{[^}]*\})*)|:\?[^}]*)?\}")  # a default may hold another one


def load_services(file: str = "docker-compose.yml") -> dict[str, Any]:
    """What runs, by name. Nothing is filled in."""
    known: dict[str, Any] = yaml.safe_load((ROOT / file).read_text())["services"]
    return known


def interpolate(text: str, **env: str) -> str:
    """A text as Compose makes it, in that environment. What follows `$$` is the container's."""

    def value(found: re.Match[str]) -> str:
        return env.get(found[1]) or interpolate(found[2] or "", **env)

    return "$".join(VARIABLE.sub(value, part) for part in text.split("$$"))


def container_script(file: str, service: str, **env: str) -> str:
    """What a service's shell is given."""
    return interpolate(str(load_services(file)[service]["command"][-1]), **env)
