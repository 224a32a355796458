"""Which origins' pages may read responses in a browser."""

from collections.abc import Collection, Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

EXPOSED_HEADERS = (  # that a page's script may read
    "ETag",
    "Retry-After",
    "X-Request-ID",
    "WWW-Authenticate",
    "Kurs-Market",
    "Kurs-As-Of",
    "Kurs-Missing",
    "Kurs-Ignored",
    "Kurs-Exchange",
    "RateLimit",
    "RateLimit-Policy",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "Cache-Status",  # nginx's
)
# That a page's script may send, beside those that need no permission. Event streams over `fetch` send the 4th and 5th.
ALLOWED_HEADERS = (
    "Authorization",
    "Content-Type",
    "If-None-Match",
    "Last-Event-ID",
    "Cache-Control",
    "Pragma",
    "X-Request-ID",
    "X-Requested-With",
)


class CorsPolicy:
    """The configured origins; `*` is any. Starlette responds to OPTIONS; for the rest a table is enough.

    There are no cookies, so a page of any origin can act for a person only with a token that the person gave it.
    """

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = origins
        exposed = (b"access-control-expose-headers", ", ".join(EXPOSED_HEADERS).encode())
        self._headers = {
            origin.encode(): ((b"access-control-allow-origin", origin.encode()), exposed) for origin in origins
        }

    def headers(self, origin: bytes) -> Sequence[tuple[bytes, bytes]]:
        """Return the headers that let a page of that origin read a response; none if it may not."""
        return self._headers.get(b"*", self._headers.get(origin, ()))

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Return the app behind Starlette's responses to preflights."""
        options = CORSMiddleware(
            app,
            allow_origins=self._origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE", "OPTIONS"],
            allow_headers=ALLOWED_HEADERS,
            max_age=600,
        )

        async def chosen(scope: Scope, receive: Receive, send: Send) -> None:
            await (options if scope.get("method") == "OPTIONS" else app)(scope, receive, send)

        return chosen
