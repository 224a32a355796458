"""Keys as operators write them, and texts that are sealed with them."""

import pickle
import secrets
from base64 import b64encode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.accounts.sealing import NONCE_BYTES, CannotOpen, UnknownKey, derive_key, key_id, open_sealed, seal
from services.core.accounts.secret_keys import SecretKey, format_key, parse_keys

KEYS = st.binary(min_size=32, max_size=32).map(SecretKey)
NONCES = st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
CONTEXTS = st.lists(WORDS, max_size=4)
SECRETS = st.binary(max_size=200)


@given(KEYS, SECRETS, CONTEXTS, NONCES, st.lists(KEYS, max_size=3))
def test_sealed_text_opens_with_its_key_among_others(
    key: SecretKey, secret: bytes, context: list[str], nonce: bytes, others: list[SecretKey]
) -> None:
    sealed = seal(key, secret, context, nonce)
    assert open_sealed([*others, key], sealed, context) == secret
    assert key_id(sealed) == key.id
    assert sealed.isascii()
    without = [other for other in others if other.id != key.id]
    with pytest.raises(UnknownKey, match=key.id):
        open_sealed(without, sealed, context)


@given(KEYS, SECRETS, CONTEXTS, CONTEXTS, NONCES)
def test_sealed_text_opens_in_its_own_context_only(
    key: SecretKey, secret: bytes, context: list[str], other: list[str], nonce: bytes
) -> None:
    sealed = seal(key, secret, context, nonce)
    for wrong in [other, [*context, ""], ["".join(context)], context[::-1]]:
        if wrong != context:
            with pytest.raises(CannotOpen):
                open_sealed([key], sealed, wrong)


@given(KEYS, SECRETS, NONCES, st.data())
def test_changed_text_does_not_open(key: SecretKey, secret: bytes, nonce: bytes, data: st.DataObject) -> None:
    sealed = seal(key, secret, ["a"], nonce)
    place = data.draw(st.integers(0, len(sealed) - 1))
    letter = data.draw(st.sampled_from("AZaz09-_.! é").filter(lambda each: each != sealed[place]))
    changed = sealed[:place] + letter + sealed[place + 1 :]
    for other in (changed, sealed[:place] + letter + sealed[place:], sealed[:place]):
        with pytest.raises(CannotOpen):
            open_sealed([key], other, ["a"])


@given(st.text(max_size=60))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(CannotOpen):
        open_sealed([], text, [])


@given(st.binary(min_size=16, max_size=64), WORDS, WORDS)
def test_each_secret_and_purpose_gives_another_key(secret: bytes, purpose: str, other: str) -> None:
    assert derive_key(secret, purpose) == derive_key(secret, purpose)
    assert derive_key(secret, purpose) != derive_key(secret + b"x", purpose)
    assert (derive_key(secret, purpose) == derive_key(secret, other)) == (purpose == other)


def test_known_text_of_this_version_opens_in_later_ones() -> None:
    key = SecretKey(bytes(range(32)))
    sealed = "s1.630dcd29.AAAAAAAAAAAAAAAAfdnWrNBYjqPZEGOYfW8WnxkvgsPBqg"
    assert seal(key, b"secret", ["data_key", "a person"], bytes(NONCE_BYTES)) == sealed
    assert open_sealed([key], sealed, ["data_key", "a person"]) == b"secret"


def test_random_keys_are_accepted_in_any_base64_and_their_order_stays() -> None:
    for _ in range(200):
        keys = [SecretKey(secrets.token_bytes(32)) for _ in range(3)]
        plain = [each.reveal() for each in keys]
        assert parse_keys(",".join(map(format_key, keys))) == tuple(keys)
        assert parse_keys("\n".join(b64encode(each).decode() for each in plain)) == tuple(keys)
        assert parse_keys(" , ".join(urlsafe_b64encode(each).decode() for each in plain)) == tuple(keys)
    assert parse_keys(" ") == ()


RANDOM = "u5Ai1H5vFSLzbWqxuqVvrZyEHGHLnVeI1JNfVn3Pn8M"  # names of tests have it, so it is the same each time


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("short", "43 characters"),
        (RANDOM[:-1], "43 characters"),
        (RANDOM + "AAAA", "43 characters"),
        ("not base64 of anything at all", "43 characters"),
        ("5f1d" * 16, "43 characters"),
        ("ключ" * 11, "43 characters"),
        (format_key(SecretKey(bytes(32))), "repeats itself"),
        (format_key(SecretKey(b"changeme" * 4)), "repeats itself"),
        (format_key(SecretKey(bytes(range(32)))), "repeats itself"),
        (format_key(SecretKey(b"My dog Rex, born 1987 in Tokyo!?")), "is text"),
        ("change-this-secret-master-key-before-you-g0", "is made of words"),
        (f"{RANDOM},{RANDOM}", "twice"),
        (f"{RANDOM} {RANDOM}=", "twice"),
    ],
)
def test_weak_keys_are_refused_with_the_way_to_make_one(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        parse_keys(text)
    assert text not in str(refused.value)
    assert "makes one" in str(refused.value) or why == "twice"


def test_no_text_of_a_key_contains_it() -> None:
    key = SecretKey(secrets.token_bytes(32))
    for text in (repr(key), str(key), f"{key}", repr([key]), repr({"key": key})):
        assert key.id in text
        assert format_key(key) not in text
        assert key.reveal().hex() not in text
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(key)
