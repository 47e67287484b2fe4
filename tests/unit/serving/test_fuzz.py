"""The published OpenAPI, generated against: thousands of requests, valid and broken, and never a 5xx."""

from __future__ import annotations

from collections import Counter

import pytest
import schemathesis
from conftest import make
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kserve.model_repository import ModelRepository
from kserve.protocol.dataplane import DataPlane
from schemathesis import GenerationMode

from serinus.serving.kserve_model import PredictorModel
from serinus.serving.kserve_routes import make_app

pytestmark = pytest.mark.slow
LEAST_CASES = 2_000
seen: Counter[int] = Counter()


def _app() -> object:
    repository = ModelRepository()
    for kind, name in (("ranking", "toy"), ("scoring", "scores")):
        model = PredictorModel(make(kind).plane)
        model.load()
        repository.update(model, name)
    return make_app(DataPlane(repository))


schema = schemathesis.openapi.from_asgi("/openapi.json", _app())
# Not by schema.parametrize(): its tests all have one node id, of which workers would run only the first.
OPERATIONS = {one.label: one for one in (found.ok() for found in schema.get_all_operations())}


@pytest.fixture(scope="module", autouse=True)
def enough_cases() -> object:
    """Counts what was sent: a schema that shrinks must not pass unnoticed."""
    yield
    assert sum(seen.values()) >= LEAST_CASES
    assert seen[200] > 0
    assert seen[400] > 0


@pytest.mark.parametrize("label", OPERATIONS)
@settings(max_examples=450, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_request_breaks_the_server(label: str, data: st.DataObject) -> None:
    operation = OPERATIONS[label]
    # Half valid, half not.
    mode = data.draw(st.sampled_from(GenerationMode))
    case = data.draw(operation.as_strategy(generation_mode=mode))
    if "model_name" in (case.path_parameters or {}) and len(str(case.body)) % 4:
        case.path_parameters["model_name"] = "toy" if len(str(case.body)) % 2 else "scores"
    answer = case.call()
    seen[int(answer.status_code)] += 1
    assert answer.status_code < 500, answer.text
    assert "Traceback" not in answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == ["application/json"]
