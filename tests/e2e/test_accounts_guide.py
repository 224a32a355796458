"""docs/accounts.md: all of its examples, as written, against a whole Kurs in one process and split."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import pytest

from tests import browser, servers
from tests.conftest import require_installed
from tests.servers import find_program
from tests.system import FAST_SETTINGS, System, distributed, single_process
from tests.waiting import eventually, wait_until

GUIDE = (Path(__file__).parents[2] / "docs/accounts.md").read_text()
CODE = re.compile(r"no admin yet; .*(kurs_i_\w+)")
SETTINGS = {**FAST_SETTINGS, "KURS_REGISTRATION": "open"}


def examples(language: str) -> str:
    """All examples of a language, one after the other."""
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL))


def printed_codes(system: System) -> list[str]:
    """The codes for the first admin that all processes have printed."""
    logs = [(each.folder / "log").read_text() for each in system.processes.values()]
    return [code for log in logs for code in CODE.findall(log)]


def run(command: Sequence[str], env: Mapping[str, str], folder: Path) -> str:
    """Run a program to its end, and return its output."""
    ran = subprocess.run(  # noqa: S603
        command, env={**os.environ, **env}, cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    return ran.stdout


async def follow_in_a_browser(url: str) -> None:
    """Run the page's functions where the API's documentation is, as a page of the same origin."""
    person = {"name": "cyd", "password": "a page has no password of its own"}
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        (await client.post("/v1/persons", json=person)).raise_for_status()
        access = (await client.post("/v1/sign-in", json=person)).raise_for_status().json()["access_token"]
    async with browser.open_page() as page:
        seen = list[str]()
        page.on("console", lambda message: seen.append(message.text))
        await page.goto(f"{url}/docs")
        for function in ("listen", "connect"):
            await page.evaluate(f"(access) => {{ {examples('js')} {function}(access); }}", access)
        for kind in ("event ", "message "):
            await eventually(lambda kind=kind: any(text.startswith(kind) for text in seen))  # type: ignore[misc]
        assert access not in "".join(seen)


async def check_guide(system: System, folder: Path) -> None:
    for program in ("curl", "jq", "bash"):
        require_installed(lambda program=program: find_program(program))  # type: ignore[misc]
    wait_until(lambda: httpx.get(f"{system.url}/v1/courses?direction=BTC-USD").status_code == 200, "rate")
    wait_until(lambda: printed_codes(system), "code for the first admin")
    (code,) = printed_codes(system)
    env = {"KURS": system.url, "INVITATION": code}
    (folder / "guide.sh").write_text(f"set -eu\n{examples('sh')}")
    (folder / "guide.py").write_text(examples("python"))
    shell = run(["bash", "guide.sh"], env, folder)
    assert '"role":"admin"' in shell
    assert '"name":"ann"' in shell
    assert "event: tasks" in shell
    assert '"agent":"curl' in shell
    python = run([sys.executable, "guide.py"], env, folder)
    assert "'name': 'bob'" in python
    assert "'type': 'snapshot'" in python
    await follow_in_a_browser(system.url)
    for each in system.processes.values():
        assert "battery" not in (each.folder / "log").read_text()


@pytest.mark.parametrize("form", ["whole", "split"])
async def test_examples_of_the_guide_work_as_written(
    form: str, tmp_path: Path, private: servers.PrivateServers
) -> None:
    if form == "whole":
        with single_process(tmp_path, SETTINGS) as system:
            await check_guide(system, tmp_path)
        return
    for server in ("postgres", "redis", "rabbit"):
        require_installed(lambda server=server: getattr(private, server))  # type: ignore[misc]
    with distributed(tmp_path, private, SETTINGS) as system:
        await check_guide(system, tmp_path)
