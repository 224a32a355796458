"""One client of CoinGecko's WebSocket: prices of chosen coins."""

from collections.abc import Iterator
from typing import Any

import msgspec

from services.simulator.coingecko.coin_prices import DAILY_TURNOVER, price_in, supply
from services.simulator.coingecko.query_params import pair
from services.simulator.fault_injection import decode
from services.simulator.market.listings import COINGECKO_CURRENCIES, COINS, DAY
from services.simulator.market.shapes import SLICE_MS
from services.simulator.simulated_socket import OutgoingFrame, SimulatedSocket

IDENTIFIER = '{"channel":"CGSimplePrice"}'
MAX_COINS = 100


class CoinGeckoSession:
    """Session of one CoinGecko client. Commands hold JSON inside strings, as in ActionCable."""

    def __init__(self, socket: SimulatedSocket) -> None:
        self._socket = socket
        self._subscribed = False
        self._currencies_by_coin: dict[str, list[str]] = {}  # coin → currencies
        self._new_coins: list[str] = []

    def frames(self, since: int, until: int) -> Iterator[OutgoingFrame]:
        """Yield each coin's price every ten seconds, and that of a new coin at once."""
        new, self._new_coins = self._new_coins, []
        at = until // SLICE_MS * SLICE_MS
        for coin, currencies in tuple(self._currencies_by_coin.items()):
            if at > since or coin in new:
                for currency in currencies:
                    yield self._price_frame(coin, currency, at)

    async def announce_shutdown(self, now: int) -> None:
        """Do nothing: CoinGecko has no such message."""

    async def on_tick(self, now: int) -> None:
        """Do nothing: CoinGecko sends no heartbeat."""

    async def on_message(self, text: str) -> None:
        try:
            command = decode(text, dict[str, Any])
            identifier = decode(str(command.get("identifier")), dict[str, Any])
            data = decode(str(command.get("data", "{}")), dict[str, Any])
        except msgspec.DecodeError as error:
            await self._send_status(4000, f"Invalid message: {error}")
            return
        if identifier.get("channel") != "CGSimplePrice":
            await self._send_status(4000, "Unknown channel")
            return
        await self._run_command(command.get("command"), data)

    async def _run_command(self, command: Any, data: dict[str, Any]) -> None:
        if command == "subscribe":
            self._subscribed = True
            await self._socket.reply({"type": "confirm_subscription", "identifier": IDENTIFIER})
        elif command == "unsubscribe":
            self._currencies_by_coin.clear()
            await self._send_status(2000, "Unsubscription is successful for all tokens")
        elif command == "message" and self._subscribed and isinstance(data.get("coin_id"), list):
            for coin in data["coin_id"]:
                await self._set_coin(str(coin), data)
        else:
            await self._send_status(4000, "Invalid command")

    async def _set_coin(self, coin: str, data: dict[str, Any]) -> None:
        if data.get("action") == "unset_tokens":
            self._currencies_by_coin.pop(coin, None)
            await self._send_status(2000, f"Unsubscription is successful for {coin}")
        elif coin not in COINS or len(self._currencies_by_coin) >= MAX_COINS:
            await self._send_status(4000, f"Subscription failed for {coin}")
        else:
            currency_names = data.get("vs_currencies")
            currencies = currency_names if currency_names and isinstance(currency_names, list) else ["usd"]
            self._currencies_by_coin[coin] = [
                name for name in currencies if isinstance(name, str) and name in COINGECKO_CURRENCIES
            ]
            self._new_coins.append(coin)
            await self._send_status(2000, f"Subscription is successful for {coin}")

    async def _send_status(self, code: int, message: str) -> None:
        await self._socket.reply({"code": code, "message": message})

    def _price_frame(self, coin: str, currency: str, at: int) -> OutgoingFrame:
        sim = self._socket.simulation
        price = price_in(sim, coin, currency, at)
        body = {
            "c": "C1",
            "i": coin,
            "vs": currency,
            "p": price,
            "pp": (price / price_in(sim, coin, currency, at - DAY) - 1) * 100,
            "m": price * supply(coin),
            "v": price * supply(coin) * DAILY_TURNOVER,
            "t": at / 1000,
        }
        return OutgoingFrame(body, pair(coin, currency), "price", str(at), str(price))
