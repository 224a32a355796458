"""Indicators as they are asked for: `sma:20,macd:12:26:9,ichimoku`."""

import re
from typing import NamedTuple

from services.core.errors import BadRange, BadRequest, unknown_name
from services.core.indicators.catalog import CATALOG, Indicator, Parameter

MOST = 50  # in one question
NUMBER = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)


class Asked(NamedTuple):
    """An indicator with all its parameters."""

    name: str
    parameters: tuple[float, ...]

    @property
    def named(self) -> dict[str, float]:
        """The parameters by name."""
        known = CATALOG[self.name].parameters
        return {parameter.name: value for parameter, value in zip(known, self.parameters, strict=True)}

    def __str__(self) -> str:
        return ":".join([self.name, *map(written, self.parameters)])


def written(number: float) -> str:
    """A parameter as it is written: 20, 0.02."""
    return str(number) if isinstance(number, int) else f"{number:.9f}".rstrip("0").rstrip(".")


def parse(text: str, most: int = MOST) -> tuple[Asked, ...]:
    """What a comma list asks for, each once, defaults filled in. Raises BadRequest, BadRange, UnknownName."""
    words = list(dict.fromkeys(word.strip().lower() for word in text.split(",") if word.strip()))
    if len(words) > most:
        raise BadRange(f"{len(words)} indicators are asked for, at most {most} are answered: ask several times")
    found = tuple(dict.fromkeys(_one(word) for word in words))
    if not found:
        raise BadRequest("indicators is missing: write indicators=sma:20,rsi; /api/indicators/catalog has all")
    return found


def _one(word: str) -> Asked:
    name, *given = word.split(":")
    if name not in CATALOG:
        raise unknown_name("indicator", name, list(CATALOG))
    known = CATALOG[name]
    if len(given) > len(known.parameters):
        raise BadRequest(f"{word[:40]!r} has {len(given)} parameters, {_described(known)}")
    values = [_read(word, text, parameter) for text, parameter in zip(given, known.parameters, strict=False)]
    values += [parameter.default for parameter in known.parameters[len(values) :]]
    if known.ascending and values[0] >= values[1]:
        first, second = known.parameters[:2]
        raise BadRange(f"{word[:40]!r}: {first.name} must be less than {second.name}; {_described(known)}")
    return Asked(name, tuple(values))


def _read(word: str, text: str, parameter: Parameter) -> float:
    if not text:
        return parameter.default
    if not NUMBER.fullmatch(text) or (parameter.whole and "." in text):
        kind = "a whole number" if parameter.whole else "a number"
        raise BadRequest(f"{word[:40]!r}: {parameter.name} is {text[:20]!r}, which is not {kind}: {_range(parameter)}")
    if not parameter.least <= float(text) <= parameter.most:
        raise BadRange(f"{word[:40]!r}: {parameter.name} is {text[:20]}, {_range(parameter)}")
    return int(text) if parameter.whole else float(text)


def _range(parameter: Parameter) -> str:
    return f"write {written(parameter.least)} to {written(parameter.most)}"


def _described(known: Indicator) -> str:
    if not known.parameters:
        return f"{known.name} takes none"
    names = ":".join(parameter.name for parameter in known.parameters)
    return f"write {known.name}:{names}, for example {Asked(known.name, tuple(p.default for p in known.parameters))}"
