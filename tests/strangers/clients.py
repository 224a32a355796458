"""The clients, their versions, what is done with each of them, and what has to be set."""

import re
from typing import Literal, NamedTuple

from tests.strangers import checks
from tests.strangers.checks import Judge

Language = Literal["python", "node", "page"]
FOLLOWED = "two channels followed over a line that breaks twice"
RESUMES = "nothing: it sends `Last-Event-ID` and comes back by itself"
LOOP = "a loop that gives the last `id` back as `Last-Event-ID`"
AFTER = "after a broken line `resume` with the last `seq` of each channel"
ORIGIN = "the page's origin in `CORS_ALLOWED_ORIGINS`"
CALLED = "client generated from `/openapi.json`, three answers called and parsed"
BINANCE = "bars, trades, quotes, depth by request, trades by socket"


class Client(NamedTuple):
    """One client. Its program is `programs/<program>`; the first of its packages is the client itself."""

    section: str
    program: str
    packages: tuple[str, ...]
    done: str
    settings: str
    judge: Judge
    name: str = ""  # where it is not the package's

    @property
    def language(self) -> Language:
        """What its program runs in."""
        languages: dict[str, Language] = {"py": "python", "mjs": "node", "html": "page"}
        return languages[self.program.rpartition(".")[2]]

    @property
    def streams(self) -> bool:
        """Whether it follows channels, over a line that breaks."""
        return self.judge in (checks.events, checks.messages)

    @property
    def title(self) -> str:
        """What the page calls it."""
        return self.name or self._split()[0]

    @property
    def version(self) -> str:
        """The client's version; empty where it has none."""
        return self._split()[1]

    def _split(self) -> tuple[str, str]:
        if not self.packages:
            return "", ""
        name, _, version = self.packages[0].replace("==", "@").rpartition("@")
        return name, version

    @property
    def folder(self) -> str:
        """Where its packages are: the name of a folder, which clients with the same ones share."""
        return re.sub("[^a-z0-9.]+", "-", self.packages[0] if self.packages else self.program).strip("-")


SSE, SOCKET, CHART, EXCHANGE, GENERATOR = (
    "Server-sent events",
    "WebSocket",
    "Charts and tables",
    "Clients of exchanges, at the simulator",
    "Generators",
)

CLIENTS = (
    Client(SSE, "httpx_sse.py", ("httpx-sse==0.4.3", "httpx==0.28.1"), FOLLOWED, LOOP, checks.events),
    Client(SSE, "aiosseclient.py", ("aiosseclient==0.1.8",), FOLLOWED, LOOP, checks.events),
    Client(SSE, "sseclient_py.py", ("sseclient-py==1.9.0", "requests==2.34.2"), FOLLOWED, LOOP, checks.events),
    Client(SSE, "eventsource.mjs", ("eventsource@4.1.1",), FOLLOWED, RESUMES, checks.events, "eventsource, in Node"),
    Client(
        SSE,
        "eventsource.html",
        ("eventsource@4.1.1",),
        f"{FOLLOWED}, in Chromium, by a page of another origin, with a header of its own",
        ORIGIN,
        checks.events,
        "eventsource, in a browser",
    ),
    Client(
        SSE,
        "fetch_event_source.html",
        ("@microsoft/fetch-event-source@2.0.1",),
        f"{FOLLOWED}, in Chromium, by a page of another origin",
        f"{ORIGIN}; `openWhenHidden`, `onclose`: see below",
        checks.events,
    ),
    Client(
        SSE,
        "native.html",
        (),
        f"{FOLLOWED}, in Chromium, by a page of another origin",
        ORIGIN,
        checks.events,
        "the browser's `EventSource`",
    ),
    Client(SOCKET, "websockets.py", ("websockets==17.4",), FOLLOWED, AFTER, checks.messages),
    Client(SOCKET, "websocket_client.py", ("websocket-client==1.9.2",), FOLLOWED, AFTER, checks.messages),
    Client(SOCKET, "aiohttp.py", ("aiohttp==3.14.5",), FOLLOWED, AFTER, checks.messages),
    Client(SOCKET, "ws.mjs", ("ws@8.23.0",), FOLLOWED, AFTER, checks.messages),
    Client(
        CHART,
        "udf.mjs",
        (),
        "configuration, search, a symbol, bars to the end of history, live bars, quotes, marks",
        "the address `/udf`",
        checks.udf,
        "TradingView's `UDFCompatibleDatafeed`",
    ),
    Client(
        CHART,
        "lightweight_charts.html",
        ("lightweight-charts@5.2.1",),
        "500 minutes drawn in Chromium by a page of another origin, then live",
        f"{ORIGIN}; its times are seconds",
        checks.chart,
    ),
    Client(
        CHART, "pandas.py", ("pandas==3.1.1",), "500 hours as a frame, summed up in days", "times are ms", checks.frame
    ),
    Client(
        EXCHANGE,
        "ccxt_binance.py",
        ("ccxt==4.5.90",),
        f"{BINANCE}, tickers",
        "`urls`; `fetchMarkets`: spot, `fetchCurrencies`: off",
        checks.binance,
        "ccxt, Binance",
    ),
    Client(EXCHANGE, "ccxt_deribit.py", ("ccxt==4.5.90",), BINANCE, "`urls`", checks.deribit, "ccxt, Deribit"),
    Client(
        EXCHANGE,
        "python_binance.py",
        ("python-binance==1.0.37",),
        BINANCE,
        "`API_URL`, `STREAM_URL`",
        checks.binance,
    ),
    Client(
        EXCHANGE,
        "binance_connector.py",
        ("binance-connector==3.13.0",),
        f"{BINANCE}, tickers of a day, of a trading day and of a window",
        "`base_url`, `stream_url`",
        checks.binance,
    ),
    Client(
        EXCHANGE,
        "binance_sdk_spot.py",
        ("binance-sdk-spot==13.3.0",),
        BINANCE,
        "`base_path`, `stream_url`; any key",
        checks.binance,
    ),
    Client(
        EXCHANGE,
        "cryptofeed_binance.py",
        ("cryptofeed==2.4.1",),
        "trades, quotes and the book by socket",
        "endpoints; `wss://` only: `KURS_SIMULATOR_TLS_PORT`",
        checks.binance,
        "cryptofeed, Binance",
    ),
    Client(
        EXCHANGE,
        "cryptofeed_deribit.py",
        ("cryptofeed==2.4.1",),
        "trades and the best prices by socket",
        "endpoints; `wss://` only: `KURS_SIMULATOR_TLS_PORT`; any key",
        checks.deribit,
        "cryptofeed, Deribit",
    ),
    Client(
        EXCHANGE,
        "pycoingecko.py",
        ("pycoingecko==3.2.0",),
        "prices, bars, a chart",
        "`api_base_url`",
        checks.coingecko,
    ),
    Client(
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
        checks.generated,
        "openapi-generator",
    ),
    Client(
        GENERATOR,
        "openapi_python_client.py",
        ("openapi-python-client==0.29.1",),
        f"Python {CALLED}",
        "`base_url`",
        checks.generated,
    ),
    Client(
        GENERATOR,
        "orval.mjs",
        ("orval@8.38.0", "typescript@5.9.3"),
        f"TypeScript {CALLED}, compiled with `tsc --strict`",
        "`baseUrl`; tsc's `lib` with `dom.iterable`",
        checks.generated,
    ),
    Client(
        GENERATOR,
        "openapi_typescript.mjs",
        ("openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3"),
        f"TypeScript types {CALLED.removeprefix('client ')}, compiled with `tsc --strict`",
        "`baseUrl`",
        checks.generated,
    ),
)
