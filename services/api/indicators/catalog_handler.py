"""`/api/indicators/catalog`."""

from services.api.indicators import schemas
from services.core.indicators import CATALOG, Indicator, Parameter, parse_specs
from services.web import CachedResponse

HEADERS = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"public, max-age=3600"),
    (b"vary", b"Origin, Accept-Encoding"),
]


async def catalog(_query: bytes) -> CachedResponse:
    """Every indicator."""
    rows = [_indicator_row(indicator) for indicator in CATALOG.values()]
    return CachedResponse(schemas.Catalog(indicators=rows).model_dump_json().encode(), HEADERS, compress=True)


def _indicator_row(indicator: Indicator) -> schemas.Indicator:
    return schemas.Indicator(
        name=indicator.name,
        title=indicator.title,
        example=str(parse_specs(indicator.name)[0]),
        parameters=[_parameter_row(each) for each in indicator.parameters],
        shape="levels" if indicator.has_levels else "series",
        outputs=list(indicator.outputs),
        overlay=indicator.overlay,
        formula=" ".join(indicator.formula.split()),
        source=indicator.source,
    )


def _parameter_row(parameter: Parameter) -> schemas.Parameter:
    kind = "whole" if parameter.integer else "number"
    return schemas.Parameter(
        name=parameter.name, kind=kind, default=parameter.default, least=parameter.minimum, most=parameter.maximum
    )
