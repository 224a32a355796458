"""The example of docs/adding-an-endpoint.md, run."""

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from services.api import schemas
from services.api.components import ApiComponents
from services.web import AppSpec, bind, create_app
from tests.api import CoursesReplica

GUIDE = (Path(__file__).parents[2] / "docs/adding-an-endpoint.md").read_text()
SCHEMA, MODULE = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


def load(name: str, source: str, folder: Path) -> ModuleType:
    """Import a source text under a name."""
    (folder / f"{name}.py").write_text(source)
    spec = spec_from_file_location(name, folder / f"{name}.py")
    assert spec
    assert spec.loader
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_endpoint_of_the_guide_serves_ages_and_names_wrong_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    age = load("guide_schema", "from pydantic import BaseModel, Field\n\n\n" + SCHEMA, tmp_path).Age
    monkeypatch.setattr(schemas, "Age", age, raising=False)
    replica, module = CoursesReplica(), load("guide_endpoint", MODULE, tmp_path)
    replica.publish_quotes("binance", "coingecko")
    replica.publish_rates()
    app = create_app(replica.deps, AppSpec([], bind(module.AgeHandler(ApiComponents(replica.deps)))))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        response = await client.get("/v1/age", params={"direction": "BTC-USD"})
        assert response.json() == {"direction": "BTC-USD", "age_ms": {"binance": 0, "deribit": None, "coingecko": 0}}
        assert (await client.get("/v1/age")).json()["detail"] == "direction is missing: write direction=BTC-USD"
        assert (await client.get("/v1/age", params={"direction": "BTC-US"})).json()["code"] == "unknown-name"
        described = (await client.get("/openapi.json")).json()["paths"]["/v1/age"]["get"]
    assert [each["name"] for each in described["parameters"]] == ["direction"]
