"""A response as bytes in all its forms: plain, compressed, and not modified."""

import gzip
import hashlib
from collections.abc import Mapping

from services.web.app_spec import Headers, RawResponse

MIN_COMPRESSED_BYTES = 1400  # a shorter body fits into one packet as it is
GZIP_LEVEL = 5
RESPONSE_OVERHEAD_BYTES = 2_000  # of memory that a response takes beside its body


class CachedResponse:
    """A response with the ETags of its forms."""

    def __init__(self, body: bytes, headers: Headers, compress: bool = False) -> None:
        digest = hashlib.blake2b(body, digest_size=12).hexdigest().encode()
        self._etags = (b'"%s"' % digest, b'"%s-gzip"' % digest)
        self._headers, self._compress = headers, compress and len(body) >= MIN_COMPRESSED_BYTES
        self.plain = self._make_response(body, self._etags[0])
        self._not_modified = {tag: RawResponse(304, [*headers, (b"etag", tag)], b"") for tag in self._etags}
        self._gzip: RawResponse | None = None

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes, with its compressed form."""
        return RESPONSE_OVERHEAD_BYTES + len(self.plain.body) * 3 // 2

    def response_for(self, request_headers: Mapping[bytes, bytes]) -> RawResponse:
        """Return the form that fits a request's headers."""
        is_gzip = self._compress and _accepts_gzip(request_headers.get(b"accept-encoding", b""))
        if (tags := request_headers.get(b"if-none-match")) is not None and _etag_matches(tags, self._etags):
            return self._not_modified[self._etags[is_gzip]]
        return self._make_gzip() if is_gzip else self.plain

    def _make_gzip(self) -> RawResponse:
        if self._gzip is None:
            body = gzip.compress(self.plain.body, GZIP_LEVEL, mtime=0)
            self._gzip = self._make_response(body, self._etags[1], (b"content-encoding", b"gzip"))
        return self._gzip

    def _make_response(self, body: bytes, tag: bytes, *more: tuple[bytes, bytes]) -> RawResponse:
        return RawResponse(200, [*self._headers, (b"etag", tag), (b"content-length", b"%d" % len(body)), *more], body)


def _accepts_gzip(accepted: bytes) -> bool:
    """Whether Accept-Encoding names gzip with a weight above 0."""
    weights = dict(part.replace(b" ", b"").partition(b";")[::2] for part in accepted.split(b","))
    return b"gzip" in weights and (not weights[b"gzip"] or weights[b"gzip"].strip(b"q=0.") != b"")


def _etag_matches(if_none_match: bytes, ours: tuple[bytes, ...]) -> bool:
    """Whether a list of ETags contains one of ours, or its weak form, which a compressing proxy makes of it."""
    if if_none_match in ours or if_none_match == b"*":
        return True
    return any(tag.strip().removeprefix(b"W/") in ours for tag in if_none_match.split(b","))
