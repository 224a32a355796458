"""docs/clients.md shows the clients that `make strangers` runs."""

from pathlib import Path

from tests.strangers.client_report import snippet
from tests.strangers.clients import CLIENTS

PAGE = Path(__file__).parents[2] / "docs/clients.md"


def test_page_of_clients_has_each_with_version_and_snippet() -> None:
    page = PAGE.read_text()
    for client in CLIENTS:
        assert f"| {client.title} | {client.version} | {client.task} |" in page, "run `make strangers`"
        assert f"\n{snippet(client)}\n```" in page, "run `make strangers`"
    assert "**fails**" not in page
