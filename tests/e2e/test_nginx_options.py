"""Options of nginx: HTTPS, and a trusted proxy in front that names clients' addresses."""

import os
import re
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests import compose, nginx, servers, tls
from tests.e2e.nginx_site import stub_replica

NOBODY = 65534
TLS = "docker-compose.tls.yml"


class HttpsSite(NamedTuple):
    """nginx with HTTPS, and a context that trusts its certificate."""

    http: str
    https: str
    context: ssl.SSLContext


@pytest.fixture(scope="module")
def front() -> Iterator[HttpsSite]:
    with servers.private_servers() as private:
        replica = stub_replica(private.folder / "replica").start()
        private.running.append(replica)
        http, https, folder = servers.free_port(), servers.free_port(), private.folder / "nginx"
        folder.mkdir()
        _, context = tls.tls_contexts(folder)
        for name in ("fullchain.pem", "privkey.pem"):
            (folder / name).write_bytes((folder / "tls.pem").read_bytes())
        script = compose.container_script(TLS, "nginx", KURS_HTTPS_PORT=str(https))
        run_container_script(script.replace("/tmp/", f"{folder}/"), "exec nginx")  # noqa: S108
        documented = re.search(
            r"(?m)^    set_real_ip_from (?:.+\n)+", (compose.ROOT / "docs/operations.md").read_text()
        )
        assert documented
        behind = documented[0].replace("172.16.0.0/12", "127.0.0.0/8")
        replicas = [int(replica.url.rpartition(":")[2])]
        private.nginx(nginx.configuration(folder, http, replicas, https, behind), http)
        yield HttpsSite(f"http://127.0.0.1:{http}", f"https://127.0.0.1:{https}", context)


def run_container_script(script: str, omitted: str = "") -> subprocess.CompletedProcess[str]:
    """Run a container's script as its user, without the lines that begin with `omitted`."""
    lines = [line for line in script.splitlines() if not (omitted and line.startswith(omitted))]
    return subprocess.run(  # noqa: S603
        ["/bin/sh", "-euc", "\n".join(lines)],
        capture_output=True,
        text=True,
        check=False,
        user=NOBODY if os.getuid() == 0 and not omitted else None,
    )


def test_http_redirects_to_the_port_that_clients_see(front: HttpsSite) -> None:
    answer = httpx.get(f"{front.http}/v2/courses?direction=BTC-USD")
    assert (answer.status_code, answer.headers["location"]) == (308, f"{front.https}/v2/courses?direction=BTC-USD")
    followed = httpx.get(answer.headers["location"], verify=front.context)
    assert (followed.status_code, followed.json()["arguments"]) == (200, "direction=BTC-USD")
    assert "max-age" in followed.headers["strict-transport-security"]


@pytest.mark.parametrize(("port", "shown"), [("443", ""), ("4443", ":4443"), ("8443", ":8443")])
def test_redirect_names_only_an_unusual_port(tmp_path: Path, port: str, shown: str) -> None:
    written = compose.container_script(TLS, "nginx", KURS_HTTPS_PORT=port).replace("/tmp/", f"{tmp_path}/")  # noqa: S108
    assert run_container_script(written, "exec nginx").returncode == 0
    assert (tmp_path / "https-port.conf").read_text() == f'set $https_port "{shown}";\n'


def test_missing_or_unreadable_key_is_refused_before_the_start() -> None:
    with servers.private_servers() as private:
        script = compose.container_script(TLS, "certificate").replace("/etc/nginx/certificates", str(private.folder))
        (private.folder / "fullchain.pem").write_text("a certificate")
        missing = run_container_script(script)
        assert (missing.returncode, missing.stderr[:27]) == (1, "privkey.pem in KURS_TLS_DIR")
        key = private.folder / "privkey.pem"
        key.write_text("a key")
        key.chmod(0)
        closed = run_container_script(script)
        assert closed.returncode == 1
        assert "closed to nginx's user" in closed.stderr
        key.chmod(0o444)
        assert run_container_script(script).returncode == 0


def test_trusted_proxy_in_front_names_the_client(front: HttpsSite) -> None:
    headers = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7"}
    answer = httpx.get(f"{front.https}/v2/courses", headers=headers, verify=front.context)
    assert answer.json()["headers"]["x-forwarded-for"] == "198.51.100.7"  # the client itself sent the entries before
