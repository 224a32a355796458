"""Access tokens: JWTs (RFC 7519, RFC 9068) that Kurs signs with EdDSA, and accepts from itself alone."""

import re
import secrets
from typing import Any, Literal, NamedTuple

import jwt
import msgspec
from msgspec import Struct

from services.api.accounts.signing_keys import SigningKeys
from services.core.accounts import base64url
from services.core.accounts.model import Person
from services.core.accounts.scopes import Scope, format_scopes, parse_scopes
from services.core.errors import Unauthenticated
from services.ports import Clock

ALGORITHM, ISSUER, TYPE = "EdDSA", "kurs", "at+jwt"
LIFETIME_SECONDS = 600
LEEWAY_SECONDS = 10  # by which clocks of replicas may differ
MAX_LENGTH = 2_048  # characters; those of ours have at most 600
MAX_HEADER_LENGTH = 128
FORM = re.compile(r"(?P<header>[\w-]+)\.[\w-]+\.[\w-]{86}", re.ASCII)  # an Ed25519 signature has 64 bytes
KEY_ID = re.compile(r"[0-9a-f]{16}")
# Times are checked against our own clock, which tests set.
OPTIONS: Any = {
    "require": ["exp", "iat", "sub", "jti", "iss", "aud"],
    **dict.fromkeys(("verify_exp", "verify_iat", "verify_nbf"), False),
}


class AccessClaims(NamedTuple):
    """What a valid access token says. `id` is its own, `expires_at` is in ms."""

    person: str
    name: str
    sign_in: str
    scopes: frozenset[Scope]
    id: str
    expires_at: int


class _Header(Struct, frozen=True, forbid_unknown_fields=True):
    """The only header that is accepted: a token that names a key or an extension of its own has another one."""

    alg: Literal["EdDSA"]
    typ: Literal["at+jwt"]
    kid: str


class _Payload(Struct, frozen=True):
    sub: str
    name: str
    sid: str
    scope: str
    jti: str
    iat: int
    exp: int
    nbf: int = 0


class AccessTokens:
    """Issues access tokens for the people of a market, and verifies them. Not to be used within a transaction."""

    def __init__(self, keys: SigningKeys, clock: Clock, market: str) -> None:
        self._keys, self._clock, self._audience = keys, clock, f"{ISSUER}:{market}"

    async def issue(self, person: Person, sign_in: str, scopes: frozenset[Scope], now: int) -> str:
        """Return a token of a sign-in. It expires LIFETIME_SECONDS after `now`. Raises Unavailable."""
        pair, issued_at = await self._keys.signing(), now // 1000
        claims = {
            "iss": ISSUER,
            "aud": self._audience,
            "sub": person.id,
            "name": person.name,
            "scope": format_scopes(scopes),
            "sid": sign_in,
            "jti": secrets.token_urlsafe(12),
            "iat": issued_at,
            "exp": issued_at + LIFETIME_SECONDS,
        }
        return jwt.encode(claims, pair.private, ALGORITHM, headers={"kid": pair.row.kid, "typ": TYPE})

    async def verify(self, token: str) -> AccessClaims:
        """Return the claims of a token. Raises Unauthenticated, and Unavailable where its key cannot be read."""
        key = await self._keys.public_key(_key_id(token))
        if key is None:
            raise invalid("it is signed with a key that is not valid here")
        try:
            claims = jwt.decode(
                token, key, algorithms=["EdDSA"], audience=self._audience, issuer=ISSUER, options=OPTIONS
            )
            payload, scopes = msgspec.convert(claims, _Payload), parse_scopes(claims.get("scope", ""))
        except (jwt.PyJWTError, msgspec.ValidationError, ValueError):
            raise invalid("it was changed, or is for something else") from None
        self._check_times(payload)
        return AccessClaims(payload.sub, payload.name, payload.sid, scopes, payload.jti, payload.exp * 1000)

    def _check_times(self, payload: _Payload) -> None:
        """Check that a token is valid now. It may look new or expired by LEEWAY_SECONDS."""
        now = self._clock.now() / 1000
        if payload.exp > payload.iat + LIFETIME_SECONDS:
            raise invalid("it lives longer than those of Kurs")
        if now >= payload.exp + LEEWAY_SECONDS:
            raise invalid("it has expired: refresh it")
        if now < max(payload.iat, payload.nbf) - LEEWAY_SECONDS:
            raise invalid("it is not valid yet: a clock is wrong")


def invalid(reason: str) -> Unauthenticated:
    """Return the error for an access token that is not valid."""
    return Unauthenticated(f"the access token is not valid: {reason}", presented=True)


def _key_id(token: str) -> str:
    """Return the id of the key that a token names, before anything in it is trusted. Raises Unauthenticated."""
    match = FORM.fullmatch(token) if len(token) <= MAX_LENGTH else None
    if match is None or len(match["header"]) > MAX_HEADER_LENGTH:
        raise invalid("it has another form than those of Kurs")
    try:
        header = msgspec.json.decode(base64url.decode(match["header"]), type=_Header)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise invalid("it has another header than those of Kurs") from None
    if not KEY_ID.fullmatch(header.kid):
        raise invalid("it names no key of Kurs")
    return header.kid
