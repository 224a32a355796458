"""CoinGecko's WebSocket: prices of chosen coins, for paying customers."""

from collections.abc import Iterator
from typing import Any

import msgspec

from services.simulator.coingecko.coin_prices import TURNOVER, supply, worth
from services.simulator.coingecko.query_params import about
from services.simulator.fault_injection import decode
from services.simulator.market.listings import COINS, CURRENCIES, DAY
from services.simulator.market.shapes import SLICE
from services.simulator.simulated_socket import Frame, Line

IDENTIFIER = '{"channel":"CGSimplePrice"}'
MOST_COINS = 100


class PriceSession:
    """Speaks for CoinGecko on one socket. Commands hold JSON inside strings, as ActionCable has it."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._subscribed = False
        self._wanted: dict[str, list[str]] = {}  # coin → currencies
        self._new: list[str] = []

    def frames(self, since: int, until: int) -> Iterator[Frame]:
        """Every ten seconds each coin; a new one at once."""
        new, self._new = self._new, []
        at = until // SLICE * SLICE
        for coin, currencies in tuple(self._wanted.items()):
            if at > since or coin in new:
                for currency in currencies:
                    yield self._frame(coin, currency, at)

    async def announce_shutdown(self, now: int) -> None:
        """There is no word for it."""

    async def look(self, now: int) -> None:
        """Nothing is due by itself."""

    async def hear(self, text: str) -> None:
        try:
            command = decode(text, dict[str, Any])
            identifier = decode(str(command.get("identifier")), dict[str, Any])
            data = decode(str(command.get("data", "{}")), dict[str, Any])
        except msgspec.DecodeError as error:
            await self._say(4000, f"Invalid message: {error}")
            return
        if identifier.get("channel") != "CGSimplePrice":
            await self._say(4000, "Unknown channel")
            return
        await self._follow(command.get("command"), data)

    async def _follow(self, command: Any, data: dict[str, Any]) -> None:
        if command == "subscribe":
            self._subscribed = True
            await self._line.reply({"type": "confirm_subscription", "identifier": IDENTIFIER})
        elif command == "unsubscribe":
            self._wanted.clear()
            await self._say(2000, "Unsubscription is successful for all tokens")
        elif command == "message" and self._subscribed and isinstance(data.get("coin_id"), list):
            for coin in data["coin_id"]:
                await self._choose(str(coin), data)
        else:
            await self._say(4000, "Invalid command")

    async def _choose(self, coin: str, data: dict[str, Any]) -> None:
        if data.get("action") == "unset_tokens":
            self._wanted.pop(coin, None)
            await self._say(2000, f"Unsubscription is successful for {coin}")
        elif coin not in COINS or len(self._wanted) >= MOST_COINS:
            await self._say(4000, f"Subscription failed for {coin}")
        else:
            given = data.get("vs_currencies")
            currencies = given if given and isinstance(given, list) else ["usd"]
            self._wanted[coin] = [name for name in currencies if isinstance(name, str) and name in CURRENCIES]
            self._new.append(coin)
            await self._say(2000, f"Subscription is successful for {coin}")

    async def _say(self, code: int, message: str) -> None:
        await self._line.reply({"code": code, "message": message})

    def _frame(self, coin: str, currency: str, at: int) -> Frame:
        sim = self._line.simulation
        price = worth(sim, coin, currency, at)
        body = {
            "c": "C1",
            "i": coin,
            "vs": currency,
            "p": price,
            "pp": (price / worth(sim, coin, currency, at - DAY) - 1) * 100,
            "m": price * supply(coin),
            "v": price * supply(coin) * TURNOVER,
            "t": at / 1000,
        }
        return Frame(body, about(coin, currency), "price", str(at), str(price))
