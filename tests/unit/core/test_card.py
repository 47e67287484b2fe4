"""The problem card tells every fault by its field."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from serinus.core.card import Problem, parse_card
from serinus.core.errors import CardError

CARD = Path(__file__).parents[3] / "problems/retail/problem.yaml"


def _raw() -> dict[str, Any]:
    return yaml.safe_load(CARD.read_text())


def _with(path: str, value: object) -> dict[str, Any]:
    """The retail card with one field changed; `...` removes it."""
    raw = copy.deepcopy(_raw())
    *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    target: Any = raw
    for part in parents:
        target = target[part]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return raw


def test_the_retail_card_holds(retail_card: Problem) -> None:
    assert retail_card.name == "retail"
    assert [candidate.kind for candidate in retail_card.data.candidates] == ["linear", "gbdt", "neural"]


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("requirements/kpis/0/role", "aim", "requirements.kpis[0].role: "),
        ("requirements/kpis/0/non_inferiority_margin", ..., "a goal needs non_inferiority_margin"),
        ("requirements/kpis/0/k", ..., "formula hits_at_k needs k"),
        ("requirements/kpis/1/formula", "ctr", "formula ctr needs k"),
        ("requirements/kpis/0/typo", 1, "requirements.kpis[0].typo: Extra inputs are not permitted"),
        ("requirements/kpis", [], "requirements.kpis: "),
        ("framing/kind", "sorting", "framing.kind: "),
        ("framing/item", ..., "kind ranking needs item"),
        ("framing/loss", "hinge", "framing.loss: "),
        ("framing/candidates/max_positives", 100, "max_positives must be smaller than size"),
        ("framing/candidates/eligible_within", "60 days", "write a duration as a whole number and a unit"),
        ("data/splits/test/start", "2011-09-15", "windows must follow each other"),
        ("data/splits/train/end", "2010-01-01", "must be before end"),
        ("data/negative_sampling_rate", 0, "data.negative_sampling_rate: "),
        ("data/candidates/0/kind", "svm", "data.candidates[0].kind: "),
        ("data/candidates/1/kind", "linear", "candidates must be of different kinds"),
        ("data/candidates/1/name", "linear", "candidate names must differ"),
        ("data/selection/slowest_class_ms", 7, "slowest_class_ms must be one of"),
        ("data/snapshot_time", "2011-05-01T00:00:00", "there would be no test rows"),
        ("operation/gates/1/name", "not_worse", "must have champion in its name"),
        ("operation/gates/2/low", ..., "check calibration needs low"),
        ("operation/gates/0/by", ["best_seller"], "names unknown baselines best_seller"),
        ("operation/rollout/steps/0/weight", 5, "a step is exactly one of shadow, weight, bake, approval"),
        ("operation/rollout/hold_back", 20, "operation.rollout.hold_back: "),
        ("operation/rollout/steps", [{"shadow": 1.0}], "operation.rollout: a rollout needs a step with a weight"),
        ("operation/monitoring/windows_in_alarm", [3, 2], "1 <= k <= m"),
    ],
)
def test_a_fault_is_told_by_its_field(path: str, value: object, expected: str) -> None:
    with pytest.raises(CardError) as raised:
        parse_card(_with(path, value))
    assert expected in raised.value.cause
    assert raised.value.exit_code == 2


def test_every_fault_is_told_at_once() -> None:
    raw = _with("framing/loss", "hinge")
    raw["requirements"]["throughput_rps"] = -1
    with pytest.raises(CardError, match=r"problem\.yaml has 2 faults") as raised:
        parse_card(raw)
    assert len(raised.value.cause.splitlines()) == 2


def test_scoring_has_no_list_to_hit() -> None:
    raw = _raw()
    raw["framing"] |= {"kind": "scoring"}
    del raw["framing"]["item"], raw["framing"]["candidates"]
    with pytest.raises(CardError) as raised:
        parse_card(raw)
    assert "kind scoring has no list to hit: KPI conversion, hits_at_10" in raised.value.cause


@pytest.mark.parametrize("document", [None, [], "name: retail"])
def test_a_document_that_is_no_card_is_told_so(document: object) -> None:
    with pytest.raises(CardError, match="is not a problem card"):
        parse_card(document)


def test_a_shadow_in_which_nothing_can_be_judged_is_refused() -> None:
    raw = _with("framing/outcomes", "depend_on_ranking")
    parse_card(raw)  # errors and latency are known with the answer
    raw["requirements"]["kpis"] = [one for one in raw["requirements"]["kpis"] if one["name"] == "hits_at_10"]
    with pytest.raises(CardError) as raised:
        parse_card(raw)
    assert "no KPI can be judged" in raised.value.cause


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("operation/gates/0/metric", "bananas", "operation.gates[0].metric: bananas is not measured for baselines"),
        ("operation/gates/0/metric", "auc", "operation.gates[0].metric: auc is not measured for baselines"),
        ("operation/gates/1/metric", "calibration_ratio", "operation.gates[1].metric: calibration_ratio is not"),
        ("operation/gates/3/metric", "log_loss", "operation.gates[3].metric: log_loss is not measured for models"),
        ("data/selection/direction", "higher", "data.selection.direction: normalized_entropy is better when lower"),
        ("operation/gates/2/low", 1.5, "operation.gates[2]: low 1.5 is above high 1.1"),
    ],
)
def test_a_gate_that_could_never_be_judged_is_a_fault_of_the_card(path: str, value: object, expected: str) -> None:
    with pytest.raises(CardError) as raised:
        parse_card(_with(path, value))
    assert raised.value.cause.startswith(expected)


def test_a_gate_against_no_baseline_would_pass_everything() -> None:
    raw = _with("data/baselines", [])
    del raw["operation"]["gates"][0]["by"]
    with pytest.raises(CardError, match="has 1 fault") as raised:
        parse_card(raw)
    assert raised.value.cause.startswith("operation.gates[0].check: baselines, and data.baselines names none")


def test_faults_of_several_gates_are_told_at_once_by_their_fields() -> None:
    raw = _with("operation/gates/0/metric", "auc")
    raw["operation"]["gates"][3]["metric"] = "bananas"
    with pytest.raises(CardError, match="has 2 faults") as raised:
        parse_card(raw)
    first, second = raised.value.cause.splitlines()
    assert first.startswith("operation.gates[0].metric: auc")
    assert second.startswith("operation.gates[3].metric: bananas")


def test_scoring_measures_no_hits(renewal_card: Problem) -> None:
    raw = renewal_card.model_dump(mode="json", by_alias=True)
    raw["data"]["selection"] |= {"metric": "hits_at_10", "direction": "higher"}
    with pytest.raises(CardError) as raised:
        parse_card(raw)
    assert raised.value.cause.startswith("data.selection.metric: hits_at_10 is not measured for kind scoring")


@pytest.mark.parametrize("written", ["5s", "90s", "90m", "12h", "36h", "7d", "0m"])
def test_a_duration_is_written_as_it_was_read(written: str) -> None:
    label = parse_card(_with("framing/label/maturity", written)).framing.label
    assert label.model_dump(mode="json")["maturity"] == written
    assert type(label).model_validate_json(label.model_dump_json()) == label


def test_less_than_a_second_is_no_duration_of_a_card() -> None:
    label = parse_card(_with("framing/label/maturity", "PT0.5S")).framing.label
    with pytest.raises(ValueError, match="whole seconds"):
        label.model_dump_json()
