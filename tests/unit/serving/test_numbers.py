"""Numbers that a model cannot take: a caller's are refused without an exposure, stored ones become flagged defaults."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from conftest import Toy, make
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import MIDNIGHT

from serinus.client.written import LARGEST
from serinus.core.kpi import Kpi
from serinus.features.batch import Batch, Ragged, Side
from serinus.features.fitting import fitted
from serinus.features.inputs import History
from serinus.features.transforms import matrix
from serinus.serving.answer import Answer
from serinus.serving.request import BadRequest, Caller, parse_v1


def ask(toy: Toy, instance: dict[str, object], **caller: str) -> Answer:
    """By a body as it comes over the wire; what a body of JSON cannot hold is asked as it is."""
    return toy.plane.answer(parse_v1({"instances": [instance]}), Caller(**caller))


@pytest.mark.parametrize("value", [1e39, -1e39, 10**400, math.inf, math.nan, True, "5", "1e3", [1], {}])
def test_a_number_that_no_model_takes_is_refused_and_leaves_no_exposure(scoring: Toy, value: object) -> None:
    with pytest.raises(BadRequest) as refused:
        ask(scoring, {"entity": "1", "context": {"amount": value}})
    assert list(refused.value.fields) == ["instances[0].context.amount"]
    assert refused.value.http_status == 400
    assert scoring.log.exposures == []
    assert scoring.count("serinus_requests_total", outcome="failed") == 0


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
CALLER = ("bucket", "forced_arm", "route", "request_id")
_FIELDS = st.sampled_from(["entity", "unit", "items", "context", "request_id", "as_of", "extra"])


@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from(["ranking", "scoring"]),
    changed=st.dictionaries(_FIELDS, _JSON | st.dictionaries(st.sampled_from(["amount", "x"]), _JSON, max_size=2)),
    caller=st.fixed_dictionaries({}, optional={name: st.text(max_size=4) for name in CALLER}),
)
def test_no_invalid_request_counts_as_an_error_of_its_arm(
    kind: str, changed: dict[str, object], caller: dict[str, str]
) -> None:
    """Whatever is sent is answered, or refused without an exposure: an error rate knows nothing of callers' faults."""
    toy = make(kind)
    try:
        ask(toy, {"entity": "1"} | ({"items": ["a"]} if kind == "ranking" else {}) | changed, **caller)
    except BadRequest:
        assert toy.log.exposures == []
        return
    assert [one.error for one in toy.log.exposures] == [""]
    assert toy.count("serinus_requests_total", outcome="failed") == 0


def test_a_stored_number_that_does_not_fit_is_a_flagged_default(scoring: Toy) -> None:
    known = ask(scoring, {"entity": "1", "context": {"amount": 1.0}})
    for stored in (1e39, -math.inf, math.inf):
        scoring.store.put("profile", "2", MIDNIGHT, visits=stored, last=MIDNIGHT)
        answer = ask(scoring, {"entity": "2", "context": {"amount": 1.0}})
        assert answer.flags.defaulted == {"profile": 1}
        assert not answer.flags.cold_start
        assert math.isfinite(answer.probabilities[0])
        assert answer.probabilities != known.probabilities
        assert scoring.log.exposures[-1].defaulted == 1
        assert scoring.log.exposures[-1].error == ""
    assert scoring.count("serinus_lookups_total", view="profile", status="unfit") == 3


def test_a_context_value_that_was_not_sent_is_flagged_and_counted(scoring: Toy) -> None:
    for context in ({}, {"amount": None}):
        answer = ask(scoring, {"entity": "1", "context": context})
        assert answer.flags.as_dict()["defaulted"] == {"context.amount": 1}
    sent = ask(scoring, {"entity": "1", "context": {"amount": 2.0}})
    assert sent.probabilities == answer.probabilities
    assert "defaulted" not in sent.flags.as_dict()
    assert [one.defaulted for one in scoring.log.exposures] == [1, 1, 0]
    assert {one.lookups for one in scoring.log.exposures} == {2}
    counted = [scoring.count("serinus_context_values_total", value="amount", status=s) for s in ("missing", "given")]
    assert counted == [2, 1]


@pytest.mark.parametrize("role", ["goal", "guardrail"])
def test_the_share_of_defaults_never_decides(role: str) -> None:
    card = {"name": "d", "formula": "defaulted_share", "direction": "lower", "per": "request"}
    assert Kpi.model_validate(card | {"role": "report"}).formula.known_at_once
    with pytest.raises(ValueError, match="role must be report"):
        Kpi.model_validate(card | {"role": role, "non_inferiority_margin": 0.1})


@given(st.lists(st.lists(st.floats(), max_size=4), min_size=1, max_size=4))
def test_a_list_is_cleared_of_what_does_not_fit_row_by_row(lists: list[list[float]]) -> None:
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in lists])]).astype(np.int64)
    column, unfit = fitted(Ragged(np.array([x for one in lists for x in one], dtype=np.float64), offsets))
    assert isinstance(column, Ragged)
    assert not (np.abs(column.values) > LARGEST).any()
    bad = [any(abs(x) > LARGEST for x in one) for one in lists]
    assert (unfit.tolist() if unfit is not None else [False] * len(lists)) == bad


def test_a_missing_element_of_one_history_leaves_the_others_alone() -> None:
    items = Ragged(np.array(["a", "b", "a", "a"], dtype=object), np.array([0, 2, 4]))
    counts = Ragged(np.array([1.0, np.nan, 2.0, 3.0]), np.array([0, 2, 4]))
    times = Ragged(np.array([0.0, 0.0, np.nan, 86_400.0]), np.array([0, 2, 4]))
    side = Side(np.array(["x", "y"], dtype=object), {"h:items": items, "h:counts": counts, "h:times": times})
    item = Side(np.array(["a"], dtype=object), {})
    batch = Batch(side, item, np.array([0, 1]), np.zeros(2, dtype=np.int64), np.full(2, 2 * 86_400.0))
    inputs = (
        History(name="n", measure="count", keys="h:items", counts="h:counts"),
        History(name="d", measure="days_since", keys="h:items", times="h:times"),
    )
    assert matrix(inputs, batch).tolist() == [[1.0, 2.0], [5.0, 1.0]]


def test_json_has_no_way_around() -> None:
    """Numbers as servers parse them: an exponent too large is infinite, a long integer is one."""
    for text in ("1e400", "1" + "0" * 400):
        with pytest.raises(BadRequest):
            ask(make("scoring"), {"entity": "1", "context": {"amount": json.loads(text)}})
