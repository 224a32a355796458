"""Where the broker is, and what has to exist there before anybody speaks.

Connections that come back by themselves are known to forget their consumers, and nothing says so. So none of these
does: everyone has a line of their own, is told when it or its consumer is gone, and asks for a new one.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
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

from services.adapters.codec import kind_name
from services.core.errors import AccessRefused, Unavailable
from services.core.markets import LIVE, Market
from services.ports import Kinds

TIMEOUT_SECONDS = 5  # how long the broker is waited for
HEARTBEAT_SECONDS = 5  # seconds; who misses three is taken for dead
CONNECTION_ERRORS = (AMQPError, ChannelInvalidStateError, OSError)

# It would say on each try what we say now and then.
logging.getLogger("aiormq").setLevel(logging.CRITICAL)


class BrokerConnection(NamedTuple):
    """A connection with one channel open."""

    connection: AbstractConnection
    channel: AbstractChannel


def market_name(name: str, market: Market) -> str:
    """What is called so in a market: a name of its own for each."""
    return name if market == LIVE else f"{name}-{market}"


@dataclass(frozen=True)
class Broker:
    """A RabbitMQ, the work queues that must be there, and how often each letter is tried."""

    url: str = field(repr=False)  # it may hold a password
    queues: Mapping[str, Kinds]
    max_deliveries: int
    market: Market = LIVE

    @property
    def exchange(self) -> str:
        """The market's exchange."""
        return self.market_name("kurs")

    def market_name(self, name: str) -> str:
        """What is called so in this market: a name of its own for each."""
        return market_name(name, self.market)

    @asynccontextmanager
    async def connect(
        self, heartbeat: int = HEARTBEAT_SECONDS, declare: bool = False
    ) -> AsyncIterator[BrokerConnection]:
        """A new line, when exchange and queues are there. `declare`: bring them up to date. Raises Unavailable."""
        with translate_errors():
            connection = await aio_pika.connect(make_url(self.url, heartbeat=heartbeat), timeout=TIMEOUT_SECONDS)
        try:
            with translate_errors():
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    channel = await (self._declare(connection) if declare else self._open_existing(connection))
            yield BrokerConnection(connection, channel)
        finally:
            with suppress(Unavailable), translate_errors():
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    await connection.close()

    async def _open_existing(self, connection: AbstractConnection) -> AbstractChannel:
        """A channel, when all is there. An account that may not declare it waits for the writer, which does."""
        channel = await connection.channel()
        try:
            await channel.declare_exchange(self.exchange, aio_pika.ExchangeType.TOPIC, passive=True)
            for name in self.queues:
                await channel.declare_queue(self.market_name(name), passive=True)
                await channel.declare_queue(self.market_name(f"{name}.dead"), passive=True)
        except ChannelNotFoundEntity:
            try:
                return await self._declare(connection)
            except ChannelAccessRefused:
                raise Unavailable(
                    f"the bus (RabbitMQ) has no {self.exchange} yet, and only a writer may declare it: start one"
                ) from None
        return channel

    async def _declare(self, connection: AbstractConnection) -> AbstractChannel:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(self.exchange, aio_pika.ExchangeType.TOPIC, durable=True)
        for name, kinds in self.queues.items():
            dead = await channel.declare_queue(
                self.market_name(f"{name}.dead"), durable=True, arguments={"x-queue-type": "quorum"}
            )
            arguments: FieldTable = {
                "x-queue-type": "quorum",
                "x-delivery-limit": self.max_deliveries - 1,  # how often one may come back
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": dead.name,
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",  # which that strategy asks for
            }
            queue = await channel.declare_queue(self.market_name(name), durable=True, arguments=arguments)
            for kind in kinds:
                await queue.bind(exchange, f"{kind_name(kind)}.#")
        return channel


@contextmanager
def translate_errors() -> Iterator[None]:
    """What goes wrong inside between us and the broker is raised as Unavailable, without its URL."""
    try:
        yield
    except asyncio.CancelledError:
        # the library also cancels whoever waits on a connection that it loses
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Unavailable("the bus (RabbitMQ) does not answer: the connection is lost") from None
    except CONNECTION_ERRORS as error:
        if advice := _advice(error):
            raise AccessRefused(f"{advice} ({error})") from None
        raise Unavailable(f"the bus (RabbitMQ) does not answer: {str(error) or type(error).__name__}") from None
    except Exception as error:
        if type(error) is Exception:  # how the library ends who writes while its connection closes
            raise Unavailable("the bus (RabbitMQ) does not answer: the connection is closing") from None
        raise


def _advice(error: Exception) -> str:
    """What to do about a refusal that waiting does not end; "" for everything else."""
    match error:
        case ProbableAuthenticationError() | AuthenticationError():
            return "RabbitMQ refuses the user or the password: correct RABBITMQ_URL"
        case InvalidFrameError() if "Connection.Close" in str(error):  # in place of opening the virtual host
            return "RabbitMQ has no such virtual host for this user: correct RABBITMQ_URL, or make it"
        case ChannelAccessRefused():
            return "RabbitMQ gives this user too few rights: grant it configure, write and read"
    return ""


async def on_loss(channel: AbstractChannel, callback: Callable[[], None]) -> None:
    """Call once the channel is gone, or the broker has dismissed its consumer."""
    channel.close_callbacks.add(lambda *_: callback())
    (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(lambda _: callback())
