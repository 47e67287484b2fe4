"""One customer, one id: key, bucket, unit and outcome join agree on each spelling, or it is refused without trace."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from conftest import Toy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from toy import NOON, SALT, SERVICE, MemoryLog, MemoryStore, bundle

from serinus.client import bucket_of
from serinus.core.names import ServiceRef
from serinus.evidence.intake import Batch
from serinus.features.keys import IdKinds
from serinus.features.online import OnlineReader, StoredRow, Wanted
from serinus.features.service import ServiceInfo
from serinus.model.bundle import Bundle
from serinus.serving.metrics import ServingMetrics
from serinus.serving.plane import DataPlane
from serinus.serving.recorder import Identity
from serinus.serving.request import BadRequest, Caller, parse_v1

KINDS = IdKinds("INT64", "INT64", "INT64")
NEAR = [0, -5, 12347, 2**53 - 1, 2**53 + 1, 2**63 - 1, -(2**63)]
_DRESSES = ("{}", "0{}", "+{}", " {}", "{} ", "{}.0", "{}e0", "{}\n", "{}\u200b", "1_{}", "\ufeff{}")
SPELLINGS = st.builds(lambda n, dress: dress.format(n), st.sampled_from(NEAR), st.sampled_from(_DRESSES))
ASKED = SPELLINGS | st.sampled_from(NEAR) | st.floats(allow_nan=False) | st.booleans() | st.none() | st.text(max_size=5)


class Spying(MemoryStore):
    """Remembers the keys that were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[bytes] = []

    def fetch(self, wanted: Sequence[Wanted]) -> list[dict[bytes, StoredRow]]:
        """See `RawStore`."""
        self.keys = [key for one in wanted for key in one.keys]
        return super().fetch(wanted)


def whole_keys(unit: str = "", *, accept_event_time: bool = False) -> tuple[Toy, Spying]:
    """The toy with keys of 64 bits, where customer 12347 has rows."""
    service = ServiceInfo(
        project="toy",
        name="toy_service",
        views=tuple(one.model_copy(update={"key_type": "INT64"}) for one in SERVICE.views),
    )
    manifest = bundle("ranking").manifest
    source = manifest.features.model_copy(update={"definitions": service.model_dump()})
    made = Bundle(manifest.model_copy(update={"features": source}), bundle("ranking").scorer)
    log, store, registry = MemoryLog(), Spying(), CollectorRegistry()
    plane = DataPlane(
        Identity(ServiceRef("default", "toy"), SALT, "3", "toy-v3-abcdef"),
        made,
        OnlineReader(store, service),
        log,
        ServingMetrics(registry),
        accept_event_time=accept_event_time,
        unit=unit,
        now=lambda: NOON,
    )
    return Toy(plane, log, store, registry), store


def ask(toy: Toy, instance: Mapping[str, object], **caller: str) -> bool:
    """Whether a body of V1 was answered; else nothing of it is in the log, and it counts as refused."""
    before = len(toy.log.exposures), toy.count("serinus_requests_total", outcome="failed")
    try:
        toy.plane.answer(parse_v1(json.loads(json.dumps({"instances": [instance]}))), Caller(**caller))
    except BadRequest:
        assert (len(toy.log.exposures), toy.count("serinus_requests_total", outcome="failed")) == before
        return False
    return True


def joins(unit: object) -> bool:
    """Whether the collector takes an outcome of this unit."""
    body = {"outcomes": [{"id": "o", "name": "n", "as_of": 1.0, "unit": unit}]}
    try:
        return not Batch.model_validate_json(json.dumps(body)).wrong_ids(KINDS)
    except ValidationError:
        return False


@pytest.mark.parametrize(
    ("unit", "replayed"),
    [("12347", True), ("12347#1", True), ("12347#25", True), ("012347#1", False), ("12347#0", False), ("12347#", False),
     ("12347#1#2", False), ("#1", False), ("12347#x", False), ("12347#1\n", False)],
)  # fmt: skip
def test_units_of_a_replays_passes_are_taken_where_event_times_are(unit: str, replayed: bool) -> None:
    """Each pass assigns anew; callers of a live service have no passes."""
    for accepted in (True, False):
        toy, _ = whole_keys(accept_event_time=accepted)
        expected = replayed if accepted else unit == "12347"
        assert ask(toy, {"entity": "12347", "unit": unit, "items": [7]}) is expected
        assert [one.unit for one in toy.log.exposures] == ([unit] if expected else [])
        assert not ask(toy, {"entity": f"{unit}#1", "items": [7]})
    assert (replace(KINDS, passes=True).unit_fault(unit) == "") is replayed
    assert (KINDS.unit_fault(unit) == "") is (unit == "12347")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(spelled=ASKED, field=st.sampled_from(["entity", "unit", "item"]))
def test_a_spelling_is_the_customer_or_is_refused(spelled: object, field: str) -> None:
    toy, store = whole_keys()
    instance = {"entity": "12347", "items": [7]} | ({"items": [spelled]} if field == "item" else {field: spelled})
    if field == "unit" and spelled is None:
        return
    answered = ask(toy, instance)
    assert answered == joins(spelled)
    if not answered:
        return
    exposure, (scores,) = toy.log.exposures[0], toy.log.scores
    written = str(spelled)
    assert (exposure.entity, exposure.unit, scores.items[0])[["entity", "unit", "item"].index(field)] == written
    assert str(int(written)) == written
    assert exposure.bucket == bucket_of(SALT, exposure.unit)
    # The entity comes first; then the items. A key ends with the number of its id.
    assert len(store.keys) == 2
    assert int(exposure.entity).to_bytes(8, "little", signed=True) in [key[-8:] for key in store.keys]


def test_the_spellings_of_the_issue_are_refused_by_their_field() -> None:
    toy, _ = whole_keys()
    for spelled in ("1_2347", "012347", "12347.0", 12347.0):
        for field in ("entity", "unit"):
            with pytest.raises(BadRequest) as refused:
                toy.plane.answer(parse_v1({"instances": [{"entity": "12347", "items": [7], field: spelled}]}), Caller())
            assert {path.rpartition(".")[2] for path in refused.value.fields} == {field}
    assert toy.log.exposures == []
    assert ask(toy, {"entity": 12347, "items": ["7"]})
    assert toy.log.exposures[0].entity == "12347"


def test_a_unit_of_another_kind_has_the_form_of_its_kind() -> None:
    toy, _ = whole_keys(unit="household")
    assert ask(toy, {"entity": 12347, "unit": "007", "items": [7]})
    assert toy.log.exposures[0].unit == "007"
    assert not ask(toy, {"entity": 12347, "unit": "007 ", "items": [7]})
    # Left out, the unit is the entity.
    assert ask(toy, {"entity": 12347, "items": [7]})


def test_one_item_in_two_spellings_is_named_twice() -> None:
    toy, _ = whole_keys()
    assert not ask(toy, {"entity": 12347, "items": ["7", 7]})
    assert not ask(toy, {"entity": 12347, "items": ["7", "07"]})


@pytest.mark.parametrize("header", ["x" * 201, "a\u00e9", "a ", "a\tb"])
def test_a_request_id_of_the_header_is_whole_or_refused(header: str) -> None:
    toy, _ = whole_keys()
    assert not ask(toy, {"entity": 12347, "items": [7]}, request_id=header)
    # A request id in the body is the one that counts.
    assert ask(toy, {"entity": 12347, "items": [7], "request_id": "r"}, request_id=header)
    assert toy.log.exposures[0].request_id == "r"


def test_text_keys_are_taken_as_they_are(ranking: Toy) -> None:
    for entity in ("012347", "1_2347", "12347.0", "A b", "é"):
        assert ask(ranking, {"entity": entity, "items": ["a"]})
        assert ranking.log.exposures[-1].entity == ranking.log.exposures[-1].unit == entity
    for refused in (" a", "a\u00a0", "e\u0301", "a\u200b", 1.5, "\u0000"):
        assert not ask(ranking, {"entity": refused, "items": ["a"]})
