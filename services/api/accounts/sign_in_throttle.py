"""Guesses at passwords are slowed down for each name, without a way for strangers to keep a person out.

An address that fails waits before it may try the same name again, longer each time, up to 15 minutes. Other addresses
do not wait for it: a stranger, or a dozen of them, cannot keep the person out. Only after a hundred failures from all
addresses, which are forgiven one a minute, those that are new to the name wait too, up to a minute. An address at which
the person is signed in is not new. Names that belong to no person are treated alike. A refresh of a sign-in, and API
tokens, depend on none of this.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import blake2b

from services.core.accounts.credentials import normalize_name
from services.core.errors import BadRange, Forbidden, KursError, QuotaExceeded, Unauthenticated
from services.core.quotas import AttemptRule
from services.ports import Cache, Clock
from services.web.attempt_limiter import AttemptLimiter
from services.web.quota_policies import SIGN_IN

FROM_ONE_ADDRESS = AttemptRule(limit=0, free_failures=5, forgiven_ms=900_000)
FROM_NEW_ADDRESSES = AttemptRule(limit=0, free_failures=100, forgiven_ms=60_000)  # of all of them together


class SignInThrottle:
    """The failed attempts to sign in under each name, at all replicas together."""

    def __init__(self, cache: Cache, clock: Clock) -> None:
        self._attempts = AttemptLimiter(cache, clock)

    @asynccontextmanager
    async def attempt(self, name: str, address: str, is_known: Callable[[], Awaitable[bool]]) -> AsyncIterator[None]:
        """Let the block check a password. If it raises Unauthenticated or Forbidden, the attempt has failed.

        `is_known`: whether the person is signed in at that address. Raises QuotaExceeded.
        """
        keys = await self._begin(_digest(name), address, is_known)
        try:
            yield
        except (Unauthenticated, Forbidden):
            raise
        except KursError:
            await self._attempts.forgive(*keys)  # the password was not checked
            raise
        await self._attempts.forgive(*keys)

    async def _begin(self, name: str, address: str, is_known: Callable[[], Awaitable[bool]]) -> tuple[str, ...]:
        """Count an attempt as failed, and return the keys under which it is."""
        here, everywhere = f"sign-in-here:{name}@{address}", f"sign-in-new:{name}"
        states = await self._attempts.attempt({here: FROM_ONE_ADDRESS, everywhere: FROM_NEW_ADDRESSES})
        if not states[here].wait_ms and not states[everywhere].wait_ms:
            return here, everywhere
        wait = states[here].wait_ms
        if not wait and await is_known():
            wait = (await self._attempts.attempt({here: FROM_ONE_ADDRESS}))[here].wait_ms
        elif not wait:
            wait = states[everywhere].wait_ms
        if wait:
            raise _refusal(wait)
        return (here,)


def _digest(name: str) -> str:
    """Return what stands for a name in the cache. Texts that are no names, such as most passwords, share one."""
    try:
        return blake2b(normalize_name(name).encode(), digest_size=16).hexdigest()
    except BadRange:
        return "none"


def _refusal(wait_ms: int) -> QuotaExceeded:
    seconds = -(-wait_ms // 1000)
    error = QuotaExceeded(f"sign-ins with this name have failed too often: come back in {seconds} s")
    error.violated_policies = [SIGN_IN.name]
    error.headers = [(b"retry-after", b"%d" % seconds)]
    return error
