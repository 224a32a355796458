"""Access tokens: their issuer, how long they are valid, and what is refused."""

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace
from pydantic import SecretStr

from services.account_ports import AccountStore, NoAccountStore
from services.adapters.sql import accounts
from services.api.accounts.access_tokens import (
    LEEWAY_SECONDS,
    LIFETIME_SECONDS,
    MAX_LENGTH,
    AccessTokens,
)
from services.api.accounts.signing_keys import OVERLAP_MS, REREAD_MS, KeyPair, SigningKeys
from services.core.accounts.model import Person
from services.core.accounts.scopes import Scope
from services.core.accounts.sealing import CannotOpen
from services.core.accounts.secret_keys import SecretKey, format_key
from services.core.errors import Unauthenticated, Unavailable
from services.key_files import new_key
from services.settings import Settings
from tests.api import ApiReplica
from tests.clocks import ManualClock
from tests.deps import make_deps

NOW = 1_800_000_000_000
SCOPES = frozenset({Scope.READ, Scope.TRADE})
ANN = Person(id="018f-ann", name="ann", password_hash="$argon2id$", created_at=NOW, password_changed_at=NOW)


@dataclass
class Issuer:
    """One replica: its keys and its tokens."""

    keys: SigningKeys
    tokens: AccessTokens

    async def issue(self, now: int = NOW) -> str:
        return await self.tokens.issue(ANN, "sign-in-1", SCOPES, now)

    async def refusal(self, token: str) -> str:
        with pytest.raises(Unauthenticated) as refused:
            await self.tokens.verify(token)
        assert refused.value.presented
        assert not token or token[:12] not in str(refused.value)
        return str(refused.value)


@pytest.fixture
async def store(sqlite: str) -> AsyncIterator[AccountStore]:
    opened = accounts.connect(sqlite)
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def token_key() -> SecretKey:
    return new_key()


def issuer(store: AccountStore, clock: ManualClock, *token_keys: SecretKey, market: str = "live") -> Issuer:
    keys = SigningKeys(store, clock, lambda: token_keys)
    return Issuer(keys, AccessTokens(keys, clock, market))


@pytest.fixture
def kurs(store: AccountStore, clock: ManualClock, token_key: SecretKey) -> Issuer:
    return issuer(store, clock, token_key)


def segment(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def signed(pair: KeyPair, claims: Any, **header: Any) -> str:
    """A token with any header and claims, signed by the true key."""
    head = {"alg": "EdDSA", "typ": "at+jwt", "kid": pair.row.kid, **header}
    text = f"{segment({name: value for name, value in head.items() if value is not None})}.{segment(claims)}"
    return f"{text}.{segment(pair.private.sign(text.encode()))}"


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


async def test_token_is_valid_for_its_lifetime_and_the_leeway(kurs: Issuer, clock: ManualClock) -> None:
    token = await kurs.issue()
    claims = await kurs.tokens.verify(token)
    assert claims[:4] == (ANN.id, "ann", "sign-in-1", SCOPES)
    assert claims.expires_at == NOW + LIFETIME_SECONDS * 1000
    assert len(token) < 600
    lasting = (LIFETIME_SECONDS + LEEWAY_SECONDS) * 1000
    for past in (-LEEWAY_SECONDS * 1000, lasting - 1):
        clock.time = NOW + past
        assert await kurs.tokens.verify(token) == claims
    clock.time = NOW + lasting
    assert "expired" in await kurs.refusal(token)
    clock.time = NOW - LEEWAY_SECONDS * 1000 - 1
    assert "not valid yet" in await kurs.refusal(token)


async def test_two_tokens_of_one_moment_differ(kurs: Issuer) -> None:
    assert await kurs.issue() != await kurs.issue()


def hmac_of_public_key(pair: KeyPair, claims: dict[str, Any], form: Callable[[KeyPair], bytes]) -> str:
    """The public key, which everyone has, taken as a shared secret."""
    text = f"{segment({'alg': 'HS256', 'typ': 'at+jwt', 'kid': pair.row.kid})}.{segment(claims)}"
    return f"{text}.{segment(hmac.digest(form(pair), text.encode(), sha256))}"


def as_pem(pair: KeyPair) -> bytes:
    return pair.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def by_other_key(pair: KeyPair, claims: dict[str, Any], **header: Any) -> str:
    """Signed by the attacker's own key, which the header may bring along."""
    other = Ed25519PrivateKey.generate()
    return signed(KeyPair(pair.row, other, other.public_key()), claims, **header)


def own_jwk(pair: KeyPair, claims: dict[str, Any]) -> str:
    other = Ed25519PrivateKey.generate()
    public = {"kty": "OKP", "crv": "Ed25519", "x": segment(other.public_key().public_bytes_raw())}
    return signed(KeyPair(pair.row, other, other.public_key()), claims, jwk=public)


def unsigned(pair: KeyPair, claims: dict[str, Any], signature: str) -> str:
    return f"{segment({'alg': 'none', 'typ': 'at+jwt', 'kid': pair.row.kid})}.{segment(claims)}.{signature}"


OTHER_KID = "0123456789abcdef"
# Changes of a good header, and of good claims; None: left out. All are signed by the true key.
HOSTILE_HEADERS: dict[str, dict[str, Any]] = {
    "long": {"kid": "a" * MAX_LENGTH},
    "deep": {"kid": [[[[[[[[]]]]]]]]},
    "alg None": {"alg": "None"},
    "no alg": {"alg": None},
    "alg RS256": {"alg": "RS256"},
    "alg of lower case": {"alg": "eddsa"},
    "typ JWT": {"typ": "JWT"},
    "no typ": {"typ": None},
    "no kid": {"kid": None},
    "unknown kid": {"kid": OTHER_KID},
    "kid that is a number": {"kid": 7},
    "kid that is a path": {"kid": "../../../dev/null"},
    "kid that is SQL": {"kid": "' UNION SELECT 'a' --"},
    "kid with a zero byte": {"kid": OTHER_KID + "\0"},
    "kid with a line end": {"kid": OTHER_KID + "\n"},
    "kid of upper case": {"kid": OTHER_KID.upper()},
    "jku": {"jku": "https://evil.example/jwks.json"},
    "jwk": {"jwk": {"kty": "OKP"}},
    "x5u": {"x5u": "https://evil.example/cert.pem"},
    "x5c": {"x5c": ["MIIB"]},
    "crit": {"crit": ["exp"], "exp": 1},
    "empty crit": {"crit": []},
    "b64": {"b64": False, "crit": ["b64"]},
    "cty": {"cty": "JWT"},
    "zip": {"zip": "DEF"},
}
HOSTILE_CLAIMS: dict[str, dict[str, Any]] = {
    "long": {"name": "a" * MAX_LENGTH},
    "expired": {"exp": NOW // 1000 - LEEWAY_SECONDS},
    "issued later": {"iat": NOW // 1000 + LEEWAY_SECONDS + 1},
    "not yet valid": {"nbf": NOW // 1000 + LEEWAY_SECONDS + 1},
    "exp that is text": {"exp": "soon"},
    "exp that is infinite": {"exp": float("inf")},
    "exp that is a huge number": {"exp": 10**400},
    "wrong audience": {"aud": "https://other.example"},
    "several audiences": {"aud": ["https://other.example"]},
    "the other market": {"aud": "kurs:simulated"},
    "wrong issuer": {"iss": "https://evil.example"},
    "subject that is a number": {"sub": 1},
    "scope that is a number": {"scope": 1},
    "unknown scope": {"scope": "read root"},
    **{f"no {name}": {name: None} for name in ("exp", "iat", "sub", "jti", "iss", "aud", "sid", "scope", "name")},
}
HOSTILE_TEXTS: dict[str, Callable[[str], str]] = {
    "empty": lambda _: "",
    "words": lambda _: "hunter2",
    "two parts": lambda token: token.rpartition(".")[0],
    "four parts": lambda token: f"{token}.AAAA",
    "padding": lambda token: f"{token}==",
    "space": lambda token: f"{token} ",
    "line end": lambda token: f"{token}\n",
    "letter of another alphabet": lambda token: "é" + token[1:],
    "changed payload": lambda token: token.replace(".ey", ".eY", 1),
    "changed signature": lambda token: token[:-2] + ("AA" if token[-2:] != "AA" else "BA"),
    "same signature, other text": lambda token: token[:-1] + chr(ord(token[-1]) + 1),
    "a megabyte": lambda token: token + "A" * 1_000_000,
    "deep header": lambda _: f"{segment(b'[' * 50_000)}.e30.{'A' * 86}",
    "deep header of allowed length": lambda _: f"{segment(b'[' * 96)}.e30.{'A' * 86}",
    "header that is a list": lambda _: f"{segment([])}.e30.{'A' * 86}",
    "header that is no JSON": lambda _: f"{segment(b'{')}.e30.{'A' * 86}",
}
FORGERIES: dict[str, Callable[[KeyPair, dict[str, Any]], str]] = {
    "alg none": partial(unsigned, signature=""),
    "alg none with a signature": partial(unsigned, signature="A" * 86),
    "HS256 by the public key in PEM": partial(hmac_of_public_key, form=as_pem),
    "HS256 by the public key's bytes": partial(hmac_of_public_key, form=lambda pair: pair.public_bytes),
    "HS256 by the public key in base64url": partial(
        hmac_of_public_key, form=lambda pair: segment(pair.public_bytes).encode()
    ),
    "another key, our kid": by_other_key,
    "another key in jwk": own_jwk,
    "another key at jku": lambda pair, claims: by_other_key(pair, claims, jku="https://evil.example/jwks.json"),
    "payload that is no JSON": lambda pair, _: signed(pair, b"\xff{"),
    "payload that is a list": lambda pair, _: signed(pair, []),
    "deep payload": lambda pair, _: signed(pair, b"[" * 700),
}
Hostile = Callable[[KeyPair, dict[str, Any]], str]


def hostile_tokens() -> dict[str, Hostile]:
    """All of the above by their names."""
    return {
        **{f"header: {name}": partial(with_header, change=each) for name, each in HOSTILE_HEADERS.items()},
        **{f"claims: {name}": partial(with_claims, change=each) for name, each in HOSTILE_CLAIMS.items()},
        **{f"text: {name}": partial(changed, change=each) for name, each in HOSTILE_TEXTS.items()},
        **FORGERIES,
    }


def with_header(pair: KeyPair, claims: dict[str, Any], change: dict[str, Any]) -> str:
    return signed(pair, claims, **change)


def with_claims(pair: KeyPair, claims: dict[str, Any], change: dict[str, Any]) -> str:
    return signed(pair, {name: value for name, value in {**claims, **change}.items() if value is not None})


def changed(pair: KeyPair, claims: dict[str, Any], change: Callable[[str], str]) -> str:
    return change(signed(pair, claims))


@pytest.mark.parametrize("name", hostile_tokens())
async def test_hostile_token_is_refused(kurs: Issuer, name: str) -> None:
    claims, pair = claims_of(await kurs.issue()), await kurs.keys.signing()
    for good in (signed(pair, claims), with_claims(pair, claims, {"aud": ["kurs:live"], "nbf": NOW // 1000})):
        assert (await kurs.tokens.verify(good)).person == ANN.id
    await kurs.refusal(hostile_tokens()[name](pair, claims))


async def test_forbidden_header_is_refused_before_the_table_is_read(clock: ManualClock, token_key: SecretKey) -> None:
    """A token of the right form makes it read the keys, which is not possible here."""
    kurs, other = issuer(NoAccountStore(), clock, token_key), Ed25519PrivateKey.generate()
    forged = partial(jwt.encode, {"sub": "x"}, other, "EdDSA")
    with pytest.raises(Unavailable):
        await kurs.tokens.verify(forged(headers={"kid": OTHER_KID, "typ": "at+jwt"}))
    changes: list[dict[str, Any]] = [{"jku": "https://evil.example"}, {"crit": ["b64"]}, {"jwk": {}}, {"typ": "JWT"}]
    for more in [*changes, {"kid": "../x"}]:
        await kurs.refusal(forged(headers={"kid": OTHER_KID, "typ": "at+jwt", **more}))


async def test_unknown_keys_make_the_table_be_read_once_a_second(
    store: AccountStore, clock: ManualClock, token_key: SecretKey
) -> None:
    reads = 0

    class Counting:
        def transaction(self) -> Any:
            nonlocal reads
            reads += 1
            return store.transaction()

        async def close(self) -> None:
            pass

    kurs = issuer(Counting(), clock, token_key)
    token = signed(await kurs.keys.signing(), {}, kid=OTHER_KID)
    clock.time += REREAD_MS
    before = reads
    for tick in range(300):
        clock.time = NOW + REREAD_MS + 10 * tick
        await asyncio.gather(kurs.refusal(token), kurs.refusal(token))
    assert reads - before == 3


async def test_tokens_outlive_a_rotation_and_new_ones_have_the_new_key(
    store: AccountStore, clock: ManualClock, token_key: SecretKey
) -> None:
    kurs, replica = issuer(store, clock, token_key), issuer(store, clock, token_key)
    old = await kurs.issue()
    assert await replica.tokens.verify(old)
    rotated = await issuer(store, clock, token_key).keys.rotate(at_once=False)
    late = await replica.issue()  # it has not noticed yet
    clock.time += REREAD_MS
    new = await replica.issue(clock.time)
    kids = [jwt.get_unverified_header(token)["kid"] for token in (old, late, new)]
    assert kids == [kids[0], kids[0], rotated.kid]
    for token in (old, late, new):
        assert await kurs.tokens.verify(token) == await replica.tokens.verify(token)
    assert [pair.row.kid for pair in await kurs.keys.verifying()] == [kids[0], rotated.kid]
    clock.time += OVERLAP_MS
    assert [pair.row.kid for pair in await kurs.keys.verifying()] == [rotated.kid]
    again = await kurs.keys.rotate(at_once=False)
    assert again.number == 3
    async with store.transaction() as transaction:
        assert [row.number for row in await transaction.keys.signing_keys()] == [2, 3]
        entry = await transaction.audit.last()
    assert entry
    assert (entry.event.action, entry.event.detail["kid"]) == ("signing_key_rotated", again.kid)


async def test_key_that_is_retired_at_once_verifies_no_more(
    store: AccountStore, clock: ManualClock, token_key: SecretKey
) -> None:
    kurs, replica = issuer(store, clock, token_key), issuer(store, clock, token_key)
    old = await kurs.issue()
    await kurs.keys.rotate(at_once=False)
    retired = await kurs.issue()
    assert await replica.tokens.verify(old)
    await kurs.keys.rotate(at_once=True)
    clock.time += REREAD_MS
    for token in (old, retired):
        for each in (kurs, replica):
            assert "a key that is not valid" in await each.refusal(token)
    assert await replica.tokens.verify(await kurs.issue())


async def test_replicas_that_start_at_once_use_one_first_key(
    store: AccountStore, clock: ManualClock, token_key: SecretKey
) -> None:
    replicas = [issuer(store, clock, token_key) for _ in range(8)]
    tokens = await asyncio.gather(*(replica.issue() for replica in replicas))
    assert len({jwt.get_unverified_header(token)["kid"] for token in tokens}) == 1
    for replica in replicas:
        for token in tokens:
            await replica.tokens.verify(token)


async def test_token_of_one_market_is_refused_in_the_other(
    store: AccountStore, clock: ManualClock, token_key: SecretKey
) -> None:
    live, simulated = (issuer(store, clock, token_key, market=market) for market in ("live", "simulated"))
    await live.refusal(await simulated.issue())


async def test_database_that_stops_refuses_no_valid_token(
    store: AccountStore, clock: ManualClock, token_key: SecretKey
) -> None:
    broken = False

    class Failing:
        def transaction(self) -> Any:
            return NoAccountStore().transaction() if broken else store.transaction()

        async def close(self) -> None:
            pass

    kurs = issuer(Failing(), clock, token_key)
    token = await kurs.issue()
    broken = True
    clock.time += REREAD_MS
    assert await kurs.tokens.verify(token)
    for attempt in (kurs.issue(), kurs.tokens.verify(signed(await_pair(kurs), {}, kid=OTHER_KID))):
        with pytest.raises(Unavailable):
            await attempt
    broken = False
    clock.time += REREAD_MS
    assert await kurs.tokens.verify(await kurs.issue(clock.time))


def await_pair(kurs: Issuer) -> KeyPair:
    """The pair that it has read."""
    return next(iter(kurs.keys._pairs.values()))


async def test_private_keys_are_sealed_and_bound_to_their_row(store: AccountStore, kurs: Issuer) -> None:
    token = await kurs.issue()
    pair = await kurs.keys.signing()
    raw = pair.private.private_bytes_raw()
    for text in (raw.hex(), segment(raw), base64.b64encode(raw).decode()):
        assert text not in pair.row.sealed
    other = replace(pair.row, kid=OTHER_KID, number=7)
    async with store.transaction() as transaction:
        assert await transaction.keys.add_signing_key(other)
    fresh = Issuer(kurs.keys, kurs.tokens)
    await fresh.refusal(signed(pair, claims_of(token), kid=other.kid))


async def test_row_that_is_not_sealed_with_the_token_key_verifies_nothing(
    store: AccountStore, clock: ManualClock, token_key: SecretKey
) -> None:
    """An attacker with write access to the table, but without the token key, cannot make tokens."""
    attacker = issuer(store, clock, new_key())
    forged = await attacker.issue()
    kurs = issuer(store, clock, token_key)
    assert "a key that is not valid" in await kurs.refusal(forged)
    with pytest.raises(CannotOpen, match=r"kurs keys rotate --at-once"):
        await kurs.issue()
    await kurs.keys.rotate(at_once=True)
    assert await kurs.tokens.verify(await kurs.issue())


async def test_new_token_key_is_used_and_the_former_still_opens(
    store: AccountStore, clock: ManualClock, token_key: SecretKey
) -> None:
    token, newer = await issuer(store, clock, token_key).issue(), new_key()
    kurs = issuer(store, clock, newer, token_key)
    assert await kurs.tokens.verify(token)
    row = await kurs.keys.rotate(at_once=False)
    assert row.sealed.split(".")[1] == newer.id
    only_new = issuer(store, clock, newer)
    assert await only_new.tokens.verify(await kurs.issue())


async def test_other_programs_verify_by_the_published_keys(store: AccountStore, clock: ManualClock) -> None:
    key = new_key()
    settings = Settings(_env_file=None, token_key=SecretStr(format_key(key)))
    replica = ApiReplica(make_deps(settings, accounts=store, clock=clock))
    assert (await replica.get("/.well-known/jwks.json")).json() == {"keys": []}
    kurs = issuer(store, clock, key)
    old = await kurs.issue()
    await kurs.keys.rotate(at_once=False)
    new = await kurs.issue()
    clock.time += 1_000
    response = await replica.get("/.well-known/jwks.json")
    assert response.status_code == 200
    assert response.headers["cache-control"].startswith("public, max-age=")
    known = jwt.PyJWKSet.from_dict(response.json())
    for token, row in zip((old, new), known.keys, strict=True):
        assert row.key_id == jwt.get_unverified_header(token)["kid"]
        assert jwt.decode(token, row, ["EdDSA"], {"verify_exp": False, "verify_iat": False}, audience="kurs:live")
    assert all({"kty", "crv", "alg", "use", "kid", "x"} == row.keys() for row in response.json()["keys"])
