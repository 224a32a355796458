"""One connection, from its opening to its end."""

import asyncio
import logging
from collections.abc import Sequence
from enum import Enum, auto
from typing import cast
from urllib.parse import urlsplit

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from services import __version__, outbound
from services.collector.batch_connection import Frames
from services.collector.exchange_feed import Line
from services.core.exchange import Answer, Event, Heard, Refused, Rejected, Renew, Send, Stream
from services.core.model import Trade
from services.core.rate_limit import Window
from services.core.silence import Rhythm

AGENT = f"kurs/{__version__}"
log = logging.getLogger(__name__)
wire = logging.getLogger(f"{__name__}.wire")
wire.setLevel(logging.INFO)  # at DEBUG the library writes headers, keys among them

GARBAGE = 20  # messages; so many more that are bad than good are no accident
PATIENCE = 60_000  # ms; a connection that has given no price by then will not
REMEDY = 60_000  # ms; a connection this old that leaves an instrument silent is tried anew


class News(Enum):
    """What a connection's keeper needs to know."""

    GOOD = auto()  # a price came
    RENEW = auto()  # it must go soon
    OVER = auto()


class Left(Exception):
    """We leave a connection."""

    def __init__(self, reason: str, wait: float = 0) -> None:
        super().__init__(reason)
        self.reason, self.wait = reason, wait


async def passage(window: Window) -> None:
    """Wait until one more is allowed, and note it. By the loop's clock, which nobody turns."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(window.wait(loop.time()))
    window.note(loop.time())


class Session:
    """One connection. Its keeper hears of it by `news`."""

    def __init__(self, line: Line, stream: Stream, origin: str) -> None:
        self.line, self.stream, self.origin = line, stream, origin
        self.host = urlsplit(origin).hostname or ""
        self.news: asyncio.Queue[News] = asyncio.Queue()
        self.wait = 0.0  # seconds that the exchange wants to be left alone
        self._good = self._renewing = False
        self._socket: Frames | None = None
        self._reason = ""
        self._opened = self._heard = line.clock.monotonic()
        self._rhythm = Rhythm(line.exchange.quiet * 1000)
        self._garbage, self._sends = 0, Window(line.exchange.sends)

    async def run(self) -> None:
        """Read until the end, whatever the end is."""
        reason = None
        try:
            await self._converse()
        except Left as left:
            reason, self.wait = left.reason, left.wait
        except InvalidStatus as error:
            reason = self._refusal(error)
        except (WebSocketException, OSError) as error:
            settings = self.line.deps.settings
            reason = f"{self.host}: {outbound.failure(error, outbound.proxy_for(settings, self.origin))}"
        finally:
            self._socket = None
            self.line.link.closed(self, reason and (self._reason or reason))
            self.news.put_nowait(News.OVER)

    async def leave(self) -> None:
        """Close in peace."""
        if self._socket:
            self._reason = self._reason or "renewed"
            await self._socket.close()

    def look(self) -> None:
        """Give a dead connection up; ask for another before this one's time is over, or when it leaves one silent."""
        now = self.line.clock.monotonic()
        if self._socket and now - self._heard > self._rhythm.allowed:
            self._reason = f"{self.host}: nothing came for {(now - self._heard) / 1000:.0f} s"
            self._socket.transport.abort()
        elif self._socket and not self._good and now - self._opened > PATIENCE:
            self._reason = f"{self.host}: no price came in {PATIENCE // 1000} s"
            self._socket.transport.abort()
        elif now - self._opened > self.line.exchange.lifetime * 1000:
            self._renew("its time is nearly over")
        elif now - self._opened > REMEDY and (silent := self.line.sources.silent(now)):
            self._renew(f"{silent[0]} is silent")

    async def _converse(self) -> None:
        async with connect(
            self.origin + self.stream.path,
            additional_headers=self.line.exchange.credentials(),
            user_agent_header=AGENT,
            compression=None,
            create_connection=Frames,
            open_timeout=5,
            close_timeout=1,
            ping_interval=None,  # pings of ours count against the limit, and prices prove more
            logger=wire,
            **outbound.websocket_options(self.line.deps.settings, self.origin),
        ) as socket:
            self._socket, self._heard = cast("Frames", socket), self.line.clock.monotonic()
            for frame in self.stream.greeting:
                await self._send(self._socket, frame)
            while True:
                await self._take(self._socket, await self._socket.messages())

    async def _take(self, socket: Frames, messages: Sequence[bytes]) -> None:
        now, events = self.line.clock.monotonic(), list[Event]()
        try:
            understood = [self._understood(message, events, now) for message in messages]
        finally:  # what was said before too much garbage counts
            self.line.take(events)
        self._garbage = max(0, self._garbage - sum(understood))
        if any(understood):
            self._heard = self.line.link.proof = now
            self._rhythm = self._rhythm.heard(now)
            self.line.alive(now, sum(understood))
        await self.line.room()
        for event in events:
            match event:
                case Send():
                    await self._send(socket, event.frame)
                case Renew():
                    self._renew(event.reason)
                case Refused():
                    raise Left(event.reason, event.wait)

    def _understood(self, message: bytes, events: list[Event], now: int) -> bool:
        """Add what a message says to `events`; answers whether it can be understood."""
        try:
            said = self.line.checked(self.stream.read(message, self.line.stamps.wall(now)), now)
        except Exception as error:  # noqa: BLE001  whatever it is, it came from outside
            self.line.garbage(error)
            self._throw_away()
            return False
        if said and all(isinstance(event, Rejected) for event in said):
            self._throw_away()
            return False
        if not self._good and any(isinstance(event, Heard | Trade) for event in said):
            self._good = True
            self.line.opened(self, self.host, now)
            self.news.put_nowait(News.GOOD)
        events += said
        return True

    def _throw_away(self) -> None:
        self._garbage += 1
        if self._garbage > GARBAGE:
            raise Left(f"{self.host}: too much of what it sends cannot be understood") from None

    async def _send(self, socket: Frames, frame: str) -> None:
        await passage(self._sends)
        await socket.send(frame)

    def _renew(self, reason: str) -> None:
        if not self._renewing:
            self._renewing = True
            log.info("%s: another connection is made: %s", self.line.exchange.name, reason)
            self.news.put_nowait(News.RENEW)

    def _refusal(self, error: InvalidStatus) -> str:
        response, exchange = error.response, self.line.exchange
        headers = {name.lower(): value for name, value in response.headers.raw_items()}
        answer = Answer(response.status_code, headers, bytes(response.body or b""))
        self.wait = exchange.wait(answer, self.line.exchange_now())
        return f"{self.host} answers {answer.status} {self.line.complaint(answer.body)}".strip()
