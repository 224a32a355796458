"""Which channels a client may subscribe to."""

from collections.abc import Iterable

from services.api.streams.channels import Channel
from services.core.errors import MissingScope, Unauthenticated
from services.web import Caller


def check_access(channels: Iterable[Channel], caller: Caller | None) -> None:
    """Check that a client may have these channels. Raises Unauthenticated, MissingScope."""
    for channel in channels:
        if channel.scope is None:
            continue
        if caller is None:
            raise Unauthenticated(
                f"the channel {channel.name} is a person's own: open the stream with a token or a ticket"
            )
        if channel.scope not in caller.scopes:
            raise MissingScope(channel.scope, f"the channel {channel.name} needs a token that allows `{channel.scope}`")
