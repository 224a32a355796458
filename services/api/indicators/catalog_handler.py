"""`/api/indicators/catalog`."""

from services.api.components import ApiComponents
from services.api.indicators import schemas
from services.core.indicators import CATALOG, Indicator, Parameter, parse_specs
from services.web import Content, Endpoint, NoQuery, Ttl, public

INDICATOR_CATALOG = Endpoint(
    path="/api/indicators/catalog",
    query=NoQuery,
    aliases=("/v1/indicators/catalog",),
    response=schemas.Catalog,
    cache=Ttl(3_600_000, max_entries=1),
    tag="indicators",
    operation_id="indicators_catalog",
    summary="All indicators",
    description="Each with its parameters and their ranges, its outputs, its formula and the source of it, and whether "
    "a chart draws it over the price.",
)


class CatalogHandler:
    """The catalog of indicators."""

    def __init__(self, _parts: ApiComponents) -> None:
        pass

    @INDICATOR_CATALOG.handler
    def catalog(self, _query: NoQuery) -> Content:
        """Return every indicator."""
        rows = [_indicator_row(indicator) for indicator in CATALOG.values()]
        return Content(schemas.Catalog(indicators=rows).model_dump_json().encode(), public(3600))


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
