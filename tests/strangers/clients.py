"""The clients: their versions, their tasks, and the settings that they need."""

import re
from typing import Literal, NamedTuple

from tests.strangers import checks
from tests.strangers.checks import OutputCheck

Language = Literal["python", "node", "page"]
FOLLOWED = "follows two channels over a connection that breaks twice"
RESUMES = "nothing: it reconnects by itself with `Last-Event-ID`"
LOOP = "a loop that sends the last `id` as `Last-Event-ID`"
AFTER = "after a broken connection `resume` with the last `seq` of each channel"
ORIGIN = "the page's origin in `CORS_ALLOWED_ORIGINS`"
CALLED = "client generated from `/openapi.json`, three endpoints requested and parsed"
BINANCE = "bars, trades, quotes, depth by request, trades by socket"


class StrangerClient(NamedTuple):
    """A client. Its program is `programs/<program>`; the first of its packages is the client itself."""

    section: str
    program: str
    packages: tuple[str, ...]
    task: str
    settings: str
    check_output: OutputCheck
    name: str = ""  # if it is not the package's

    @property
    def language(self) -> Language:
        """The language of its program."""
        languages: dict[str, Language] = {"py": "python", "mjs": "node", "html": "page"}
        return languages[self.program.rpartition(".")[2]]

    @property
    def follows_stream(self) -> bool:
        """Whether it follows channels over a connection that breaks."""
        return self.check_output in (checks.check_events, checks.check_messages)

    @property
    def title(self) -> str:
        """Its name on the page."""
        return self.name or self._package_parts()[0]

    @property
    def version(self) -> str:
        """Its version, empty if it has none."""
        return self._package_parts()[1]

    def _package_parts(self) -> tuple[str, str]:
        if not self.packages:
            return "", ""
        name, _, version = self.packages[0].replace("==", "@").rpartition("@")
        return name, version

    @property
    def folder(self) -> str:
        """The name of the folder of its packages, which clients with the same packages share."""
        return re.sub("[^a-z0-9.]+", "-", self.packages[0] if self.packages else self.program).strip("-")


SSE, SOCKET, CHART, EXCHANGE, GENERATOR = (
    "Server-sent events",
    "WebSocket",
    "Charts and tables",
    "Clients of exchanges, at the simulator",
    "Generators",
)

CLIENTS = (
    StrangerClient(SSE, "httpx_sse.py", ("httpx-sse==0.4.3", "httpx==0.28.1"), FOLLOWED, LOOP, checks.check_events),
    StrangerClient(SSE, "aiosseclient.py", ("aiosseclient==0.1.8",), FOLLOWED, LOOP, checks.check_events),
    StrangerClient(
        SSE, "sseclient_py.py", ("sseclient-py==1.9.0", "requests==2.34.2"), FOLLOWED, LOOP, checks.check_events
    ),
    StrangerClient(
        SSE, "eventsource.mjs", ("eventsource@4.1.1",), FOLLOWED, RESUMES, checks.check_events, "eventsource, in Node"
    ),
    StrangerClient(
        SSE,
        "eventsource.html",
        ("eventsource@4.1.1",),
        f"{FOLLOWED}, in Chromium, by a page of another origin, with a header of its own",
        ORIGIN,
        checks.check_events,
        "eventsource, in a browser",
    ),
    StrangerClient(
        SSE,
        "fetch_event_source.html",
        ("@microsoft/fetch-event-source@2.0.1",),
        f"{FOLLOWED}, in Chromium, by a page of another origin",
        f"{ORIGIN}; `openWhenHidden`, `onclose`: see below",
        checks.check_events,
    ),
    StrangerClient(
        SSE,
        "native.html",
        (),
        f"{FOLLOWED}, in Chromium, by a page of another origin",
        ORIGIN,
        checks.check_events,
        "the browser's `EventSource`",
    ),
    StrangerClient(SOCKET, "websockets.py", ("websockets==17.4",), FOLLOWED, AFTER, checks.check_messages),
    StrangerClient(SOCKET, "websocket_client.py", ("websocket-client==1.9.2",), FOLLOWED, AFTER, checks.check_messages),
    StrangerClient(SOCKET, "aiohttp.py", ("aiohttp==3.14.5",), FOLLOWED, AFTER, checks.check_messages),
    StrangerClient(SOCKET, "ws.mjs", ("ws@8.23.0",), FOLLOWED, AFTER, checks.check_messages),
    StrangerClient(
        CHART,
        "udf.mjs",
        (),
        "configuration, search, a symbol, bars to the end of history, live bars, quotes, marks",
        "the address `/udf`",
        checks.check_udf,
        "TradingView's `UDFCompatibleDatafeed`",
    ),
    StrangerClient(
        CHART,
        "lightweight_charts.html",
        ("lightweight-charts@5.2.1",),
        "500 minutes drawn in Chromium by a page of another origin, then live",
        f"{ORIGIN}; its times are seconds",
        checks.check_chart,
    ),
    StrangerClient(
        CHART,
        "pandas.py",
        ("pandas==3.1.1",),
        "500 hours as a data frame, resampled to days",
        "times are ms",
        checks.check_data_frame,
    ),
    StrangerClient(
        EXCHANGE,
        "ccxt_binance.py",
        ("ccxt==4.5.90",),
        f"{BINANCE}, tickers",
        "`urls`; `fetchMarkets`: spot, `fetchCurrencies`: off",
        checks.check_binance,
        "ccxt, Binance",
    ),
    StrangerClient(
        EXCHANGE, "ccxt_deribit.py", ("ccxt==4.5.90",), BINANCE, "`urls`", checks.check_deribit, "ccxt, Deribit"
    ),
    StrangerClient(
        EXCHANGE,
        "python_binance.py",
        ("python-binance==1.0.37",),
        BINANCE,
        "`API_URL`, `STREAM_URL`",
        checks.check_binance,
    ),
    StrangerClient(
        EXCHANGE,
        "binance_connector.py",
        ("binance-connector==3.13.0",),
        f"{BINANCE}, tickers of a day, of a trading day and of a window",
        "`base_url`, `stream_url`",
        checks.check_binance,
    ),
    StrangerClient(
        EXCHANGE,
        "binance_sdk_spot.py",
        ("binance-sdk-spot==13.3.0",),
        BINANCE,
        "`base_path`, `stream_url`; any key",
        checks.check_binance,
    ),
    StrangerClient(
        EXCHANGE,
        "cryptofeed_binance.py",
        ("cryptofeed==2.4.1",),
        "trades, quotes and the book by socket",
        "endpoints; `wss://` only: `KURS_SIMULATOR_TLS_PORT`",
        checks.check_binance,
        "cryptofeed, Binance",
    ),
    StrangerClient(
        EXCHANGE,
        "cryptofeed_deribit.py",
        ("cryptofeed==2.4.1",),
        "trades and the best prices by socket",
        "endpoints; `wss://` only: `KURS_SIMULATOR_TLS_PORT`; any key",
        checks.check_deribit,
        "cryptofeed, Deribit",
    ),
    StrangerClient(
        EXCHANGE,
        "pycoingecko.py",
        ("pycoingecko==3.2.0",),
        "prices, bars, a chart",
        "`api_base_url`",
        checks.check_coingecko,
    ),
    StrangerClient(
        GENERATOR,
        "openapi_generator.py",
        (
            "openapi-generator-cli==7.26.0",
            "pydantic==2.14.3",
            "python-dateutil==4.0.0",
            "typing-extensions==4.16.0",
            "urllib3==2.8.0",
        ),
        f"Python {CALLED}",
        "`Configuration(host=…)`; needs Java 11",
        checks.check_generated,
        "openapi-generator",
    ),
    StrangerClient(
        GENERATOR,
        "openapi_python_client.py",
        ("openapi-python-client==0.29.1",),
        f"Python {CALLED}",
        "`base_url`",
        checks.check_generated,
    ),
    StrangerClient(
        GENERATOR,
        "orval.mjs",
        ("orval@8.38.0", "typescript@5.9.3"),
        f"TypeScript {CALLED}, compiled with `tsc --strict`",
        "`baseUrl`; tsc's `lib` with `dom.iterable`",
        checks.check_generated,
    ),
    StrangerClient(
        GENERATOR,
        "openapi_typescript.mjs",
        ("openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3"),
        f"TypeScript types {CALLED.removeprefix('client ')}, compiled with `tsc --strict`",
        "`baseUrl`",
        checks.check_generated,
    ),
)
