"""`/api/indicators/catalog`."""

from services.api.indicators import schemas
from services.core.indicators import CATALOG, Indicator, Parameter, parse
from services.web import Kept

HEADERS = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"public, max-age=3600"),
    (b"vary", b"Origin, Accept-Encoding"),
]


async def catalog(_query: bytes) -> Kept:
    """Every indicator."""
    rows = [_row(indicator) for indicator in CATALOG.values()]
    return Kept(schemas.Catalog(indicators=rows).model_dump_json().encode(), HEADERS, packs=True)


def _row(indicator: Indicator) -> schemas.Indicator:
    return schemas.Indicator(
        name=indicator.name,
        title=indicator.title,
        example=str(parse(indicator.name)[0]),
        parameters=[_parameter(each) for each in indicator.parameters],
        shape="levels" if indicator.levels else "series",
        outputs=list(indicator.outputs),
        overlay=indicator.overlay,
        formula=" ".join(indicator.formula.split()),
        source=indicator.source,
    )


def _parameter(parameter: Parameter) -> schemas.Parameter:
    kind = "whole" if parameter.whole else "number"
    return schemas.Parameter(
        name=parameter.name, kind=kind, default=parameter.default, least=parameter.least, most=parameter.most
    )
