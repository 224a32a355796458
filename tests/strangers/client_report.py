"""The page docs/clients.md: a table of the clients, and the code that uses each of them."""

import platform
import textwrap
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.strangers.client_runner import PROGRAMS_FOLDER
from tests.strangers.clients import CLIENTS, StrangerClient

LANGUAGES = {"python": "python", "node": "js", "page": "js"}
REPORT_TEMPLATE = """\
# Clients

Clients and generators of other people work with Kurs and with its simulator unchanged. `make strangers` installs
those below, each in a folder of its own, runs them against a fresh Kurs in one process on the simulated market, and
compares their results with the responses of Kurs or the simulator. It writes this page.

- {moment} UTC, {machine}
- {passed} of {all} pass{rest}

Each client has its install line and the part of its program that uses it (`tests/strangers/programs/` has the rest).
Set these first:

| name | value |
| --- | --- |
| `KURS` | `http://localhost:8000`; with containers `http://localhost:8080` |
| `SIMULATOR` | `http://localhost:8000/simulator`; with `KURS_MARKET=simulated make run`; [others](simulator.md) |
| `SECURE` | `wss://localhost:8443/simulator`, with `KURS_SIMULATOR_TLS_PORT=8443` |
| `CERTIFICATE` | then the file `data/simulator-cert.pem` |
| `UDF` | the folder `datafeeds/udf` of TradingView's library, which only TradingView gives |
| `seen`, `updated` | your own function, called for each message |

{sections}
"""
STREAMS_NOTE = """\
A stream begins with the current state, one event for each channel; each later event is a change. The connection between
a client and Kurs is cut in the middle of a response, twice; then the client's events are compared with those of
`/v1/stream/history`. [streams.md](streams.md) has the channels, the closing codes and the limits.
"""
NOTES = {"Server-sent events": STREAMS_NOTE}


class ClientResult(NamedTuple):
    """The result of a client. `passed` is None if it could not be run."""

    client: StrangerClient
    passed: bool | None
    message: str


def render_report(results: Sequence[ClientResult]) -> str:
    """Return the page."""
    failed = sum(result.passed is False for result in results)
    missed = sum(result.passed is None for result in results)
    rest = [f", {failed} fail"] if failed else []
    rest += [f", {missed} could not be run here"] if missed else []
    return REPORT_TEMPLATE.format(
        moment=time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        passed=sum(bool(result.passed) for result in results),
        all=len(results),
        rest="".join(rest),
        sections="\n".join(_sections(results)).rstrip(),
    )


def _sections(results: Sequence[ClientResult]) -> Iterator[str]:
    for section in dict.fromkeys(client.section for client in CLIENTS):
        mine = [result for result in results if result.client.section == section]
        if not mine:
            continue
        yield f"## {section}\n"
        if section in NOTES:
            yield NOTES[section]
        yield "| client | version | what it did | result | settings |"
        yield "| --- | --- | --- | --- | --- |"
        yield from map(row, mine)
        yield ""
        for result in mine:
            yield f"**{result.client.title}**\n"
            if command := install_command(result.client):
                yield f"    {command}\n"
            yield f"```{LANGUAGES[result.client.language]}\n{snippet(result.client)}\n```\n"


def row(result: ClientResult) -> str:
    """Return a client's row of the table."""
    client, message = result.client, result.message.replace("|", "\\|")
    text = {True: message, False: f"**fails**: {message}", None: f"**not run**: {message}"}[result.passed]
    return f"| {client.title} | {client.version} | {client.task} | {text} | {client.settings} |"


def install_command(client: StrangerClient) -> str:
    """Return the line that installs the client; empty if there is nothing to install."""
    if not client.packages:
        return ""
    tool = "pip install" if client.language == "python" else "npm install"
    return f"{tool} {' '.join(client.packages)}"


def snippet(client: StrangerClient) -> str:
    """Return the part of a client's program that users need."""
    parts: list[list[str]] = []
    inside = False
    for line in (PROGRAMS_FOLDER / client.program).read_text().splitlines():
        mark = line.strip().lstrip("#/ ")
        if mark in ("page", "end") and line.strip()[0] in "#/":
            inside = mark == "page"
            parts += [[]] if inside else []
        elif inside:
            parts[-1].append(line)
    return "\n\n".join(textwrap.dedent("\n".join(part)).strip("\n") for part in parts)
