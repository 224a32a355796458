"""`/.well-known/jwks.json`: the keys with which other programs verify Kurs's access tokens."""

from services.api.accounts import schemas
from services.api.components import ApiComponents
from services.core.accounts import base64url
from services.web import Content, Endpoint, NoQuery, Ttl, public
from services.web.quota_policies import PAGES

KEY_SET = Endpoint(
    path="/.well-known/jwks.json",
    limit=PAGES,
    query=NoQuery,
    response=schemas.JsonWebKeySet,
    cache=Ttl(1_000, max_entries=1),
    tag="accounts",
    operation_id="key_set",
    summary="Keys of access tokens",
    description="The public keys that verify access tokens, also those that sign no more while their tokens are valid. "
    "Before a token was ever issued there is none. A token that names another key is signed with a new one: read the "
    "keys again.",
)


class KeyHandlers:
    """The public keys."""

    def __init__(self, parts: ApiComponents) -> None:
        self._keys = parts.accounts.signing_keys

    @KEY_SET.handler
    async def key_set(self, _query: NoQuery) -> Content:
        """Return the keys whose tokens are valid. Raises Unavailable."""
        pairs = await self._keys.verifying()
        keys = [schemas.JsonWebKey(kid=pair.row.kid, x=base64url.encode(pair.public_bytes)) for pair in pairs]
        return Content(schemas.JsonWebKeySet(keys=keys).model_dump_json().encode(), public(5))
