"""Search for leaked secrets in many encodings, in anything that bytes can be read from."""

import base64
import binascii
import html
import json
import quopri
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

MIN_LENGTH = 12  # of a part that is searched: a shorter one would be found by chance


def encodings(secret: str) -> Mapping[str, bytes]:
    """Return a secret in all forms in which careless code could write it."""
    text = secret.encode()
    half = len(text) // 2
    forms = {
        "plain": text,
        "first half": text[:half],
        "second half": text[half:],
        "reversed": secret[::-1].encode(),
        "lower case": text.lower(),
        "upper case": text.upper(),
        "hex": text.hex().encode(),
        "HEX": text.hex().upper().encode(),
        "URL": quote(secret, safe="").encode(),
        "path": quote(secret).encode(),
        "form": quote_plus(secret).encode(),
        "JSON": json.dumps(secret)[1:-1].encode(),
        "JSON in JSON": json.dumps(json.dumps(secret)[1:-1])[1:-1].encode(),
        "repr": repr(secret)[1:-1].encode(),
        "repr of bytes": repr(text)[2:-1].encode(),
        "HTML": html.escape(secret).encode(),
        "UTF-16": secret.encode("utf-16-le"),
        "quoted-printable": quopri.encodestring(text),
        "uuencoded": binascii.b2a_uu(text[:45]).strip(),
        "ASCII85": base64.a85encode(text),
        "base32": base64.b32encode(text).rstrip(b"="),
        "octal": "".join(f"\\{byte:03o}" for byte in text).encode(),  # PostgreSQL's old bytea
    }
    for shift in range(3):  # within a longer text it begins at one of three places
        middle = base64.b64encode(b"\0" * shift + text)[4 if shift else 0 : -4]
        forms |= {f"base64 +{shift}": middle, f"base64url +{shift}": middle.translate(bytes.maketrans(b"+/", b"-_"))}
    return {name: form for name, form in forms.items() if len(form) >= MIN_LENGTH}


def encodings_of_bytes(secret: bytes) -> Mapping[str, bytes]:
    """Return a secret of bytes in the forms in which it could be written."""
    half = len(secret) // 2
    forms = {"plain": secret, "hex": secret.hex().encode(), "HEX": secret.hex().upper().encode()}
    forms |= {"first half": secret[:half], "second half": secret[half:], "reversed": secret[::-1]}
    forms |= {"repr": repr(secret)[2:-1].encode(), "list": str(list(secret))[1:-1].encode()}
    forms |= {"base64": base64.b64encode(secret)[:-4], "base64url": base64.urlsafe_b64encode(secret)[:-4]}
    return forms


@dataclass
class CanarySearch:
    """What to search for: secrets by their names, in all encodings."""

    secrets: dict[str, str] = field(default_factory=dict)
    raw: dict[str, bytes] = field(default_factory=dict)

    def add(self, name: str, secret: str) -> str:
        """Search for one more secret, and return it."""
        assert len(secret) >= 2 * MIN_LENGTH, f"{name} is too short to be searched in halves"
        self.secrets[name] = secret
        return secret

    def add_bytes(self, name: str, secret: bytes) -> None:
        """Search for a secret that is no text, and for what it looks like as text."""
        self.raw[name] = secret

    def leaks(self, places: Iterable[tuple[str, bytes]]) -> list[str]:
        """Return which secret is in which place, in which encoding."""
        known = {name: encodings(secret) for name, secret in self.secrets.items()}
        known |= {name: encodings_of_bytes(secret) for name, secret in self.raw.items()}
        forms = {form: (name, encoding) for name, found in known.items() for encoding, form in found.items()}
        return [
            f"{where}: {name} ({encoding}) at {at}: {_around(content, at)}"
            for where, content in places
            for form, (name, encoding) in forms.items()
            if (at := content.find(form)) >= 0
        ]


def files(folder: Path, since: float = 0) -> Iterator[tuple[str, bytes]]:
    """Return what is in a folder's files that were written to since then, and what compressed parts of them say."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_mtime >= since:
            content = path.read_bytes()
            yield str(path.relative_to(folder.parent)), content
            yield from ((f"{path.name}, unpacked", part) for part in _unpacked(content))


def _unpacked(content: bytes) -> Iterator[bytes]:
    """Return what gzip and zlib streams in a file contain."""
    for mark in (b"\x1f\x8b\x08", b"\x78\x9c"):
        at = content.find(mark)
        while at >= 0:
            with suppress(zlib.error):
                yield zlib.decompressobj(47).decompress(content[at:], 10_000_000)
            at = content.find(mark, at + 1)


def _around(content: bytes, at: int) -> str:
    return content[max(0, at - 60) : at].decode(errors="replace") + "…"
