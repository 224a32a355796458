"""The broker's topology, and connections to it.

aio-pika's connections that reconnect by themselves can silently lose their consumers. So no connection here reconnects:
each subscriber has its own, gets a callback when it or its consumer is lost, and opens a new one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.connection import make_url
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError
from aiormq.exceptions import (
    AuthenticationError,
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from pamqp.common import FieldTable

from services.adapters import driver_errors
from services.adapters.codec import kind_name
from services.core.errors import Unavailable
from services.core.markets import LIVE, Market
from services.ports import Kinds

SERVER = "the bus (RabbitMQ)"
TIMEOUT_SECONDS = 5  # for the broker's replies
HEARTBEAT_SECONDS = 5  # a peer that misses three is considered dead
CONNECTION_ERRORS = (AMQPError, ChannelInvalidStateError, OSError)


class BrokerConnection(NamedTuple):
    """A connection with one channel open."""

    connection: AbstractConnection
    channel: AbstractChannel


def market_name(name: str, market: Market) -> str:
    """Return a name at the broker, which differs between markets."""
    return name if market == LIVE else f"{name}-{market}"


@dataclass(frozen=True)
class Broker:
    """A RabbitMQ, its work queues, and how often each message is delivered."""

    url: str = field(repr=False)  # it may contain a password
    queues: Mapping[str, Kinds]
    max_deliveries: int
    market: Market = LIVE

    @property
    def exchange(self) -> str:
        """The market's AMQP exchange."""
        return self.market_name("kurs")

    def market_name(self, name: str) -> str:
        """Return a name in this market."""
        return market_name(name, self.market)

    @asynccontextmanager
    async def connect(
        self, heartbeat: int = HEARTBEAT_SECONDS, declare: Sequence[str] = ()
    ) -> AsyncIterator[BrokerConnection]:
        """Open a connection, when the AMQP exchange and the queues exist. `declare`: create or update these queues.

        Raises Unavailable.
        """
        with translate_errors():
            connection = await aio_pika.connect(make_url(self.url, heartbeat=heartbeat), timeout=TIMEOUT_SECONDS)
        try:
            with translate_errors():
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    opening = self._declare(connection, declare) if declare else self._open_existing(connection)
                    channel = await opening
            yield BrokerConnection(connection, channel)
        finally:
            with suppress(Unavailable), translate_errors():
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    await connection.close()

    async def _open_existing(self, connection: AbstractConnection) -> AbstractChannel:
        """Open a channel when everything exists. An account without the right to declare waits for the writer."""
        channel = await connection.channel()
        try:
            await channel.declare_exchange(self.exchange, aio_pika.ExchangeType.TOPIC, passive=True)
            for name in self.queues:
                await channel.declare_queue(self.market_name(name), passive=True)
                await channel.declare_queue(self.market_name(f"{name}.dead"), passive=True)
        except ChannelNotFoundEntity:
            try:
                return await self._declare(connection, [*self.queues])
            except ChannelAccessRefused:
                raise Unavailable(
                    f"the bus (RabbitMQ) lacks the exchange {self.exchange} or a queue, and only the writer may "
                    "declare them: start a writer"
                ) from None
        return channel

    async def _declare(self, connection: AbstractConnection, queues: Sequence[str]) -> AbstractChannel:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(self.exchange, aio_pika.ExchangeType.TOPIC, durable=True)
        for name in queues:
            dead = await channel.declare_queue(
                self.market_name(f"{name}.dead"), durable=True, arguments={"x-queue-type": "quorum"}
            )
            arguments: FieldTable = {
                "x-queue-type": "quorum",
                "x-delivery-limit": self.max_deliveries - 1,  # redeliveries
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": dead.name,
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",  # required by that strategy
            }
            queue = await channel.declare_queue(self.market_name(name), durable=True, arguments=arguments)
            for kind in self.queues[name]:
                await queue.bind(exchange, f"{kind_name(kind)}.#")
        return channel


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise errors of the broker in the block as AccessRefused or Unavailable."""
    with driver_errors.translate(SERVER, CONNECTION_ERRORS, _advice):
        try:
            yield
        except asyncio.CancelledError:
            # aio-pika also cancels tasks that await a connection which is lost
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise Unavailable(f"{SERVER} does not respond: the connection is lost") from None
        except Exception as error:
            if type(error) is Exception:  # aio-pika raises it for a publish while its connection closes
                raise Unavailable(f"{SERVER} does not respond: the connection is closing") from None
            raise


def _advice(error: Exception) -> str:
    """Return how to fix a refusal that waiting does not end; "" for every other error."""
    match error:
        case ProbableAuthenticationError() | AuthenticationError():
            return "RabbitMQ refuses the user or the password: correct RABBITMQ_URL"
        case InvalidFrameError() if "Connection.Close" in str(error):  # in response to opening the virtual host
            return "RabbitMQ has no such virtual host for this user: correct RABBITMQ_URL, or create it"
        case ChannelAccessRefused():
            return "RabbitMQ denies this user access: grant it the permissions configure, write and read"
    return ""


async def on_loss(channel: AbstractChannel, callback: Callable[[], None]) -> None:
    """Call `callback` when the channel is closed, or the broker has cancelled its consumer."""
    channel.close_callbacks.add(lambda *_: callback())
    (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(lambda _: callback())
