"""The project's nginx outside its container, with the same files in a folder and on a port of a test."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers import Server, nginx

FOLDER = Path(__file__).parents[1] / "nginx"


def start_nginx(folder: Path, port: int, replicas: Sequence[int]) -> Server:
    """Start nginx on `port` of the loopback in front of replicas of the API at these ports."""
    return nginx(folder, configuration(folder, port, replicas), port).start()


def configuration(folder: Path, port: int, replicas: Sequence[int], https: int = 0, more: str = "") -> str:
    """Return the configuration as one text, with `folder` in place of the container's /tmp.

    The replicas are listed, while a container looks up their addresses. `https` is a second port, with the certificate
    in `folder`. `more` is the text of an operator's own file in conf.d.
    """
    servers = "\n".join(f"server 127.0.0.1:{replica} max_fails=0;" for replica in replicas)
    changes = {
        "listen 8080 ": f"listen 127.0.0.1:{port} ",
        "resolver 127.0.0.11 valid=1s ipv6=off;": "",
        "set $replicas api:8000;": "set $replicas replicas;",
    }
    if https:
        newer_directives = {"http2 on;": ""}  # a directive of nginx 1.25 and newer
        changes |= {"include tls/*.conf;": replace_once((FOLDER / "tls.conf").read_text(), newer_directives)}
    site = replace_once((FOLDER / "conf.d/kurs.conf").read_text(), changes)
    if https:
        site = replace_once(site, {"listen 8443 ": f"listen 127.0.0.1:{https} "})
    site = f"upstream replicas {{\n{servers}\n}}\n{more}\n{site}"
    process = (FOLDER / "nginx.conf").read_text()
    whole = replace_once(process, {"include conf.d/*.conf;": site}).replace(" /tmp/", f" {folder}/")
    return whole.replace("/etc/nginx/certificates", str(folder))


def replace_once(text: str, changes: Mapping[str, str]) -> str:
    """Return the text with each change made. Each old text must occur once."""
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text
