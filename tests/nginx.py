"""The project's nginx, outside its container: the same files, in a folder and on a port of the test's."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers import Server, nginx

FOLDER = Path(__file__).parents[1] / "nginx"


def start_nginx(folder: Path, port: int, replicas: Sequence[int]) -> Server:
    """An nginx on `port` of the loopback in front of replicas of the API at these ports."""
    return nginx(folder, configuration(folder, port, replicas), port).start()


def configuration(folder: Path, port: int, replicas: Sequence[int], https: int = 0, more: str = "") -> str:
    """The whole of it in one text; what the container keeps under /tmp goes to `folder`.

    The replicas are listed, where a container looks them up; nginx makes the same of both. `https`: a second port, with
    the certificate in `folder`. `more`: what an operator has in a file of their own in conf.d.
    """
    servers = "\n".join(f"server 127.0.0.1:{replica} max_fails=0;" for replica in replicas)
    changes = {
        "listen 8080 ": f"listen 127.0.0.1:{port} ",
        "resolver 127.0.0.11 valid=1s ipv6=off;": "",
        "set $replicas api:8000;": "set $replicas replicas;",
    }
    if https:
        of_newer = {"http2 on;": ""}  # a word of nginx 1.25 and newer
        changes |= {"include tls/*.conf;": replace_once((FOLDER / "tls.conf").read_text(), of_newer)}
    site = replace_once((FOLDER / "conf.d/kurs.conf").read_text(), changes)
    if https:
        site = replace_once(site, {"listen 8443 ": f"listen 127.0.0.1:{https} "})
    site = f"upstream replicas {{\n{servers}\n}}\n{more}\n{site}"
    process = (FOLDER / "nginx.conf").read_text()
    whole = replace_once(process, {"include conf.d/*.conf;": site}).replace(" /tmp/", f" {folder}/")
    return whole.replace("/etc/nginx/certificates", str(folder))


def replace_once(text: str, changes: Mapping[str, str]) -> str:
    """The text with each change made, each where it was expected once."""
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text
