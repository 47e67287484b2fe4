"""Gates: each check's pass and fail, errors that are errors, and the first line of a refusal."""

from __future__ import annotations

from typing import Any

import pytest

from serinus.core.card import Problem
from serinus.core.errors import BundleError, GateFailed
from serinus.core.verdict import Outcome
from serinus.training.gates import Candidacy, judge, require
from serinus.training.results import Comparison, Evaluation, Latency, ModelResult, Slice


def _evaluation(**changes: Any) -> Evaluation:
    metrics = {"hits_at_10": 1.5, "calibration_ratio": 1.01} | changes.pop("metrics", {})
    slices = tuple(
        Slice(by=by, value=value, requests=100, metrics={"hits_at_10": hits})
        for by in ("c_is_uk", "c_is_known")
        for value, hits in (("0", changes.get("weak", 1.0)), ("1", 1.6))
    )
    model = ModelResult(
        name="gbdt", kind="gbdt", metrics=metrics, validation_metrics={}, calibration_by_month={},
        latency=Latency(p50_ms=0.5, p99_ms=1, class_ms=changes.pop("class_ms", 1)), size_bytes=1, fit_seconds=1,
        bundle_hash="", precision_recall=(), reliability=(), importance=(), slices=slices,
    )  # fmt: skip
    changes.pop("weak", None)
    return Evaluation(
        problem="retail", window="", requests=1, rows=1, positives=1, base_rate=0.05, models=(model,),
        baselines={name: {"hits_at_10": hits} for name, hits in
                   (("random", 0.5), ("popularity", 1.0), ("bought_before", 1.2))},
        chosen="gbdt", chosen_because="", **changes,
    )  # fmt: skip


def _outcomes(card: Problem, evaluation: Evaluation, parity: float = 0.0) -> dict[str, Outcome]:
    checks = judge(card, Candidacy("gbdt", evaluation, lambda: parity))
    return {check.name: check.outcome for check in checks}


def _champion(difference: float, half: float) -> dict[str, Any]:
    row = Comparison(
        metric="hits_at_10", candidate="gbdt", against="champion", difference=difference, low=difference - half,
        high=difference + half, reference=1.4, entities=2_500,
    )  # fmt: skip
    return {"champion_version": 3, "comparisons": (row,)}


def test_a_good_first_version_passes_every_gate(retail_card: Problem) -> None:
    found = _outcomes(retail_card, _evaluation())
    assert found.pop("not_worse_than_champion") is Outcome.NOT_APPLICABLE
    assert set(found.values()) == {Outcome.PASS}
    assert len(found) == 3 + 1 + 4 + 1 + 1


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        ({"metrics": {"hits_at_10": 1.19}}, "beats_baselines.bought_before"),
        ({"metrics": {"calibration_ratio": 1.2}}, "calibrated"),
        ({"weak": 0.1}, "slices_hold.c_is_known:0"),
        ({"class_ms": 100}, "fast_enough"),
        (_champion(-0.05, 0.1), "not_worse_than_champion"),
    ],
    ids=["baseline", "calibration", "slice", "latency", "champion"],
)
def test_each_gate_can_fail(retail_card: Problem, changes: dict[str, Any], gate: str) -> None:
    assert _outcomes(retail_card, _evaluation(**changes))[gate] is Outcome.FAIL


def test_golden_rows_that_differ_fail(retail_card: Problem) -> None:
    assert _outcomes(retail_card, _evaluation(), parity=1e-3)["golden_rows"] is Outcome.FAIL


def test_not_worse_than_the_champion_needs_no_gain(retail_card: Problem) -> None:
    assert _outcomes(retail_card, _evaluation(**_champion(0.0, 0.05)))["not_worse_than_champion"] is Outcome.PASS


def test_a_champion_that_cannot_be_scored_is_an_error_and_stops(retail_card: Problem) -> None:
    evaluation = _evaluation(champion_version=3, champion_error="feature item_daily:lines_7 was not looked up")
    checks = judge(retail_card, Candidacy("gbdt", evaluation, lambda: 0.0))
    assert {c.name: c.outcome for c in checks}["not_worse_than_champion"] is Outcome.ERROR
    with pytest.raises(GateFailed, match="champion v3 cannot be scored"):
        require(checks, "gbdt")


def test_a_crash_inside_a_gate_is_an_error_and_not_a_failure(retail_card: Problem) -> None:
    def crash() -> float:
        raise BundleError("the bundle does not load in a fresh process")

    checks = judge(retail_card, Candidacy("gbdt", _evaluation(), crash))
    found = next(check for check in checks if check.name == "golden_rows")
    assert found.outcome is Outcome.ERROR
    assert found.reason == "the bundle does not load in a fresh process"


def test_a_refusal_names_candidate_gate_and_figures_in_its_first_line(retail_card: Problem) -> None:
    checks = judge(retail_card, Candidacy("gbdt", _evaluation(metrics={"hits_at_10": 1.1}), lambda: 0.0))
    with pytest.raises(GateFailed) as raised:
        require(checks, "gbdt")
    assert raised.value.headline == (
        "candidate gbdt was refused by gate beats_baselines.bought_before fail: "
        "hits_at_10 1.1000 (allowed > 1.2000 of bought_before)"
    )
    assert raised.value.exit_code == 3


def test_a_warning_does_not_stop(retail_card: Problem) -> None:
    require(judge(retail_card, Candidacy("gbdt", _evaluation(weak=0.1), lambda: 0.0)), "gbdt")
