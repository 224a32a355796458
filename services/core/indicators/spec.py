"""Indicators with parameters as clients write them: `sma:20,macd:12:26:9,ichimoku`."""

import re
from typing import NamedTuple

from services.core.errors import BadRange, BadRequest, unknown_name
from services.core.indicators.catalog import CATALOG, Indicator, Parameter

MAX_INDICATORS = 50  # of one request
PARAM_PATTERN = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)


class IndicatorSpec(NamedTuple):
    """An indicator with all its parameters."""

    name: str
    parameters: tuple[float, ...]

    @property
    def params_by_name(self) -> dict[str, float]:
        """The parameters by name."""
        declared = CATALOG[self.name].parameters
        return {parameter.name: value for parameter, value in zip(declared, self.parameters, strict=True)}

    def __str__(self) -> str:
        return ":".join([self.name, *map(format_param, self.parameters)])


def format_param(number: float) -> str:
    """Return a parameter as text, without exponent and trailing zeros: 20, 0.02."""
    return str(number) if isinstance(number, int) else f"{number:.9f}".rstrip("0").rstrip(".")


def parse_specs(text: str, max_specs: int = MAX_INDICATORS) -> tuple[IndicatorSpec, ...]:
    """Return the indicators of a comma list, each once, with defaults. Raises BadRequest, BadRange, UnknownName."""
    texts = list(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    if len(texts) > max_specs:
        raise BadRange(f"{len(texts)} indicators are requested, at most {max_specs} are allowed: send several requests")
    specs = tuple(dict.fromkeys(map(_parse_spec, texts)))
    if not specs:
        raise BadRequest("indicators is missing: write indicators=sma:20,rsi; /api/indicators/catalog lists all")
    return specs


def _parse_spec(spec_text: str) -> IndicatorSpec:
    name, *params = spec_text.split(":")
    if name not in CATALOG:
        raise unknown_name("indicator", name, list(CATALOG))
    indicator = CATALOG[name]
    if len(params) > len(indicator.parameters):
        raise BadRequest(f"{spec_text[:40]!r} has {len(params)} parameters, {_usage_hint(indicator)}")
    values = [_parse_param(spec_text, *pair) for pair in zip(params, indicator.parameters, strict=False)]
    values += [parameter.default for parameter in indicator.parameters[len(values) :]]
    if indicator.ascending and values[0] >= values[1]:
        first, second = indicator.parameters[:2]
        raise BadRange(f"{spec_text[:40]!r}: {first.name} must be less than {second.name}; {_usage_hint(indicator)}")
    return IndicatorSpec(name, tuple(values))


def _parse_param(spec_text: str, text: str, parameter: Parameter) -> float:
    if not text:
        return parameter.default
    if not PARAM_PATTERN.fullmatch(text) or (parameter.integer and "." in text):
        kind = "a whole number" if parameter.integer else "a number"
        raise BadRequest(
            f"{spec_text[:40]!r}: {parameter.name} is {text[:20]!r}, which is not {kind}: {_range_hint(parameter)}"
        )
    if not parameter.minimum <= float(text) <= parameter.maximum:
        raise BadRange(f"{spec_text[:40]!r}: {parameter.name} is {text[:20]}, {_range_hint(parameter)}")
    return int(text) if parameter.integer else float(text)


def _range_hint(parameter: Parameter) -> str:
    return f"write {format_param(parameter.minimum)} to {format_param(parameter.maximum)}"


def _usage_hint(indicator: Indicator) -> str:
    if not indicator.parameters:
        return f"{indicator.name} takes none"
    names = ":".join(parameter.name for parameter in indicator.parameters)
    example = IndicatorSpec(indicator.name, tuple(p.default for p in indicator.parameters))
    return f"write {indicator.name}:{names}, for example {example}"
