"""What stands beside an exposure: the decision of every answer, and of sampled requests what the model was fed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from conftest import Toy, make
from hypothesis import given
from hypothesis import strategies as st
from toy import NOON

from serinus.core.errors import BundleError
from serinus.core.events import Decided, Inputs, Stream
from serinus.features.transforms import Matrix
from serinus.serving.request import BadRequest, Caller, Instance
from serinus.serving.sampling import Sampling

ITEMS = ["a", "b", "c"]


def _ask(toy: Toy, **fields: Any) -> Any:
    return toy.plane.answer(Instance.model_validate({"entity": "1", **fields}), Caller())


def _decided(toy: Toy) -> list[Decided]:
    return toy.log.beside[Stream.DECISIONS]


def _inputs(toy: Toy) -> list[Inputs]:
    return toy.log.beside[Stream.INPUTS]


def test_the_order_decided_is_that_of_the_answer(ranking: Toy) -> None:
    answer = _ask(ranking, items=ITEMS, request_id="r")
    (row,) = _decided(ranking)
    assert (row.id, row.request_id, row.revision, row.at) == (
        "r@toy-v3-abcdef", "r", "toy-v3-abcdef", NOON.timestamp(),
    )  # fmt: skip
    assert [ITEMS[place] for place in row.order] == list(answer.items)
    assert (row.action, row.reasons, row.rule_ids, row.propensity) == ("", (), (), 1.0)


def test_one_probability_has_no_order(scoring: Toy) -> None:
    _ask(scoring)
    assert [row.order for row in _decided(scoring)] == [()]


def test_the_row_is_what_the_model_was_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    toy, fed = make("ranking", inputs_share=1.0), list[Matrix]()
    score = toy.plane.bundle.scorer.log_odds
    monkeypatch.setattr(toy.plane.bundle.scorer, "log_odds", lambda rows: fed.append(rows) or score(rows))
    for number in range(20):
        _ask(toy, items=ITEMS, request_id=f"r{number}", as_of="2024-03-05T06:00:00")
    assert {row.position for row in _inputs(toy)} == {0, 1, 2}
    for row, rows in zip(_inputs(toy), fed, strict=True):
        assert row.row == tuple(rows[row.position].tolist())
        assert row.item == ITEMS[row.position]
        assert (row.as_of, row.at) == (NOON.timestamp() - 6 * 3600, NOON.timestamp())


@pytest.mark.parametrize(("context", "logged"), [({"amount": 7.5}, {"amount": 7.5}), ({"amount": None}, {}), ({}, {})])
def test_the_context_is_what_the_request_gave(context: dict[str, float | None], logged: dict[str, float]) -> None:
    toy = make("scoring", inputs_share=1.0)
    _ask(toy, context=context)
    (row,) = _inputs(toy)
    assert json.loads(row.context) == logged
    assert (row.position, row.item, row.row) == (0, "", (3.0, context.get("amount") or 2.0))


def test_both_arms_of_a_shadow_log_the_same_row_of_the_same_requests() -> None:
    arms = [make("ranking", inputs_share=0.3, revision=f"toy-v{number}-abcdef") for number in (1, 2)]
    for number in range(200):
        for toy in arms:
            _ask(toy, items=ITEMS, request_id=f"r{number}")
    first, second = ([(row.request_id, row.position) for row in _inputs(toy)] for toy in arms)
    assert first == second
    assert 30 < len(first) < 90
    assert {row.revision for row in _inputs(arms[1])} == {"toy-v2-abcdef"}


def test_without_a_share_no_inputs_are_logged(ranking: Toy) -> None:
    _ask(ranking, items=ITEMS)
    assert _inputs(ranking) == []


def test_a_request_that_is_refused_leaves_nothing() -> None:
    toy = make("ranking", inputs_share=1.0)
    with pytest.raises(BadRequest):
        _ask(toy, items=[])
    assert not any(toy.log.beside.values())


def test_a_request_that_fails_leaves_its_exposure_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = make("ranking", inputs_share=1.0)
    monkeypatch.setattr(toy.plane.bundle.scorer, "log_odds", lambda rows: rows[:, 0] * float("nan"))
    with pytest.raises(BundleError):
        _ask(toy, items=ITEMS)
    assert len(toy.log.exposures) == 1
    assert not any(toy.log.beside.values())


@given(st.text(st.characters(exclude_categories=("Cs",))), st.integers(1, 500), st.floats(0, 1), st.floats(0, 1))
def test_a_request_sampled_at_one_share_is_sampled_at_every_larger_one(
    request_id: str, rows: int, first: float, second: float
) -> None:
    small, large = (Sampling(share).position(request_id, rows) for share in sorted((first, second)))
    assert small is None or small == large
    assert large is None or 0 <= large < rows
    assert Sampling(1.0).position(request_id, rows) is not None
    assert Sampling(0.0).position(request_id, rows) is None


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_share_is_that_of_the_requests_and_positions_are_spread(share: float) -> None:
    count, rows = 20_000, 10
    found = [place for n in range(count) if (place := Sampling(share).position(f"r{n}", rows)) is not None]
    assert len(found) == pytest.approx(count * share, abs=5 * (count * share * (1 - share)) ** 0.5)
    expected = len(found) / rows
    assert np.abs(np.bincount(found, minlength=rows) - expected).max() < 5 * expected**0.5
