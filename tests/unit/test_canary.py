"""The search for leaked secrets finds each encoding, wherever it stands."""

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.canary import CanarySearch, encodings, files

SECRET = 'Ü"canary\\ <&>+/correct horse 7%'
ENCODERS: dict[str, Callable[[str], bytes]] = {
    "log line": lambda text: f'{{"message": "sign-in of {text}"}}'.encode(),
    "JSON": lambda text: json.dumps({"a": [text]}).encode(),
    "JSON in JSON": lambda text: json.dumps({"a": json.dumps([text])}).encode(),
    "repr": lambda text: repr({"a": text}).encode(),
    "bytes": lambda text: repr(text.encode()).encode(),
    "query": lambda text: urlencode({"a": text}).encode(),
    "basic 0": lambda text: base64.b64encode(f"abc{text}".encode()),
    "basic 1": lambda text: base64.b64encode(f"abcd{text}!".encode()),
    "basic 2": lambda text: base64.b64encode(f"abcde{text}!!".encode()),
    "base64url": lambda text: base64.urlsafe_b64encode(f"abcd{text}".encode()),
    "hex": lambda text: text.encode().hex().encode(),
    "truncated": lambda text: text[:20].encode() + b"...",
    "tail": lambda text: b"..." + text[-20:].encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_each_encoding_is_found(encoder: str) -> None:
    search = CanarySearch()
    search.add("password", SECRET)
    content = b"before " * 50 + ENCODERS[encoder](SECRET) + b" after" * 50
    assert search.leaks([("a log", content)]), encodings(SECRET)


def test_compressed_files_are_searched(tmp_path: Path) -> None:
    search = CanarySearch()
    search.add("password", SECRET)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "dump").write_bytes(b"header" + gzip.compress(b"x" * 1000 + SECRET.encode()))
    assert search.leaks(files(tmp_path))
    assert not search.leaks([("a hash", b"6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b" * 100)])
