"""Ids, opaque tokens, and which names and passwords are accepted."""

import os
import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.accounts.credentials import check_new_password, normalize_name, normalize_password
from services.core.accounts.ids import uuid7
from services.core.accounts.token_format import (
    BASE62,
    FAMILY_LENGTH,
    RANDOM_BYTES,
    SHOWN_LENGTH,
    TokenType,
    check_token,
    family_of,
    new_token,
)
from services.core.errors import BadRange

LOG_FILTER = re.compile(r"kurs_[a-z]_[0-9A-Za-z]{20,}")
RANDOM = st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES)


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_ids_are_uuids_of_version_7_that_sort_by_time(now: int, random: bytes, other: bytes) -> None:
    parsed = uuid.UUID(uuid7(now, random))
    assert (parsed.version, parsed.variant, parsed.int >> 80) == (7, uuid.RFC_4122, now)
    assert uuid7(now, random) < uuid7(now + 1, other) or now == 2**48 - 1


def test_ids_of_the_same_time_differ_by_74_bits() -> None:
    assert uuid7(1, bytes(10)) == "00000000-0001-7000-8000-000000000000"
    assert uuid7(1, b"\xff" * 10) == "00000000-0001-7fff-bfff-ffffffffffff"


@given(st.sampled_from(TokenType), RANDOM)
def test_tokens_are_recognized_by_their_form(kind: TokenType, random: bytes) -> None:
    token = new_token(kind, random)
    assert check_token(token) is kind
    assert LOG_FILTER.fullmatch(token)
    assert not LOG_FILTER.search(token[:SHOWN_LENGTH])


@given(st.sampled_from(TokenType), RANDOM, st.data())
def test_changed_token_is_refused(kind: TokenType, random: bytes, data: st.DataObject) -> None:
    token = new_token(kind, random)
    place = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from(BASE62).filter(lambda each: each != token[place]))
    assert check_token(token[:place] + letter + token[place + 1 :]) is None
    for text in (token[:-1], token + "0", f" {token}", f"{token}\n", token.upper(), "", "kurs_p_", "eyJ.e30.c2ln"):
        assert check_token(text) is None


def test_refresh_tokens_share_the_characters_of_their_family() -> None:
    first = new_token(TokenType.REFRESH, os.urandom(RANDOM_BYTES))
    second = new_token(TokenType.REFRESH, os.urandom(RANDOM_BYTES), family_of(first))
    assert (len(family_of(first)), len(second)) == (FAMILY_LENGTH, len(first))
    assert family_of(first) == family_of(second)
    assert check_token(second) is TokenType.REFRESH
    assert first[-36:-6] != second[-36:-6]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Ann", "ann"),
        ("ANN.b-C_3@Example.org", "ann.b-c_3@example.org"),
        ("\uff41\uff4e\uff4e", "ann"),
        ("K" * 64, "k" * 64),
    ],
)
def test_names_are_the_same_in_every_spelling(text: str, name: str) -> None:
    assert normalize_name(text) == normalize_name(name) == name


@pytest.mark.parametrize("text", ["", "ab", "a" * 65, "ann b", "ann\n", "\u0430nn", "ann/b", "an\x00n", "ann:b"])
def test_names_of_other_characters_are_refused(text: str) -> None:
    with pytest.raises(BadRange, match="name: write 3 to 64"):
        normalize_name(text)


@pytest.mark.parametrize(
    "password",
    ["correct horse battery staple", "Tr0ub4dor&3 x2", "пароль из пяти слов", "🦊 the quick one", "8141592653589"],
)
def test_passwords_of_any_characters_are_accepted(password: str) -> None:
    assert check_new_password(password, "ann") == normalize_password(password)


def test_passwords_are_the_same_however_their_characters_are_composed() -> None:
    assert check_new_password("caf\u00e9 au lait, 2", "ann") == check_new_password("cafe\u0301 au lait, 2", "ann")


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("", "it has 0 characters"),
        ("short enough", None),
        ("a bit short", "it has 11 characters"),
        ("x" * 1001, "it has 1001 characters"),
        ("aaaaaaaaaaaa", "different characters"),
        ("123412341234", "different characters"),
        ("123456789012", "guessed"),
        ("0987654321098", "guessed"),
        ("Password1234", "guessed"),
        ("passwordpassword", "guessed"),
        ("12 Administrator!", "guessed"),
        ("ann.smith@example.org", "guessed"),
        ("Ann-Smith-2026", "guessed"),
    ],
)
def test_passwords_that_are_guessed_first_are_refused(password: str, reason: str | None) -> None:
    if reason is None:
        check_new_password(password, "ann.smith@example.org")
        return
    with pytest.raises(BadRange, match=reason) as error:
        check_new_password(password, "ann.smith@example.org")
    assert not password or password not in str(error.value)
