"""A secret is shown by `reveal` alone."""

import copy
import json
import logging
import pickle
import pprint
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from services.core.accounts.secret import Secret

TEXT = "correct horse battery"
SECRET = Secret(TEXT)


class Body(msgspec.Struct):
    """What a request may contain."""

    password: Secret


@dataclass
class Form:
    """The same as a dataclass."""

    password: Secret


def test_no_text_form_shows_a_secret() -> None:
    logged = logging.makeLogRecord({"msg": "%s %r", "args": (SECRET, SECRET)}).getMessage()
    forms: list[Any] = [
        *(str(SECRET), repr(SECRET), f"{SECRET}", f"{SECRET:>40}", f"{SECRET!r}", "%s" % SECRET, "{}".format(SECRET)),  # noqa: UP031, UP032
        *(repr(Body(SECRET)), repr(Form(SECRET)), repr([SECRET]), repr({SECRET: SECRET}), pprint.pformat([SECRET])),
        *(json.dumps([SECRET], default=str), msgspec.json.encode(Body(SECRET), enc_hook=str), logged),
    ]
    assert [form for form in forms if TEXT in str(form) or TEXT[:8] in str(form)] == []


def test_secret_is_not_serialized() -> None:
    for serialize in (json.dumps, pickle.dumps, msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins):
        with pytest.raises(TypeError) as raised:
            serialize(SECRET)
        assert TEXT not in str(raised.value)
    assert copy.copy(SECRET) is SECRET
    assert copy.deepcopy([SECRET])[0] is SECRET
    with pytest.raises(TypeError):
        vars(SECRET)


def test_secrets_are_compared_by_their_texts() -> None:
    assert Secret("Ünï") == Secret("Ünï")
    assert Secret("Ünï") != Secret("Uni")
    assert SECRET != TEXT
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert SECRET.reveal() == TEXT
