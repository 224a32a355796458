"""Streams of people end with the sign-in or the API token that has opened them."""

import logging

from services.api.accounts.authentication import TokenAuthenticator
from services.api.streams.broadcaster import Broadcaster
from services.core.errors import Unavailable
from services.ports import Clock

CHECK_SECONDS = 5
log = logging.getLogger(__name__)


class CallerCheck:
    """Checks the callers of all streams in one transaction. Streams of anonymous clients cost nothing."""

    def __init__(self, broadcaster: Broadcaster, authenticator: TokenAuthenticator, clock: Clock) -> None:
        self._broadcaster, self._authenticator, self._clock = broadcaster, authenticator, clock

    async def run(self) -> None:
        """Run as a job of the service."""
        while True:
            await self._clock.sleep(CHECK_SECONDS)
            try:
                await self._end_streams()
            except Unavailable as error:
                log.debug("streams: callers not checked, next try in %d s: %s", CHECK_SECONDS, error)

    async def _end_streams(self) -> None:
        callers = {client.caller for client in self._broadcaster.clients if client.caller}
        ended = await self._authenticator.ended(callers) if callers else set()
        for client in list(self._broadcaster.clients):
            if client.caller in ended:
                client.send_signed_out()
