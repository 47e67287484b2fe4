"""A card whose page has five places: training, gates, replay, report and summary measure and say five."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from serinus.cli.evidence import show_result
from serinus.cli.pipeline import show_models
from serinus.core.card import Problem, parse_card
from serinus.core.errors import CardError
from serinus.core.metric import of_models
from serinus.core.run import RunRecord, StepRecord
from serinus.core.verdict import Check
from serinus.replay.recording import Recording, record
from serinus.replay.report import Figure, ReplayResult, baseline_figures
from serinus.report import render
from serinus.training.compare import Scored, compare
from serinus.training.gates import Candidacy, judge
from serinus.training.metrics import Window, all_metrics, ranking_metrics
from serinus.training.results import CurvePoint, Evaluation, Latency, ModelResult, Slice
from serinus.wiring.summary import summarize

REQUESTS, ITEMS = 60, 12
FIVE = {"hits_at_5", "ndcg_at_5", "revenue_at_5", "top_1", "any_hit_at_5"}


def with_k(card: Problem, k: int, **gate: str) -> dict[str, Any]:
    """The card with a page of k places, as a document; its gates ask for hits on that page."""
    raw = card.model_dump(mode="json", by_alias=True)
    kpis = {one["name"]: one for one in raw["requirements"]["kpis"]}
    kpis["hits_at_10"] |= {"k": k, "name": f"hits_at_{k}"}
    del kpis["revenue"]["k"]  # it follows the page
    for one in raw["operation"]["gates"]:
        if one["metric"] == "hits_at_10":
            one["metric"] = gate.get(one["name"], f"hits_at_{k}")
    return raw


@pytest.fixture
def card(retail_card: Problem) -> Problem:
    return parse_card(with_k(retail_card, 5))


def rows_of(seed: int = 1) -> pd.DataFrame:
    """Requests of twelve items, two of them bought."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([rng.permutation([1, 1] + [0] * (ITEMS - 2)) for _ in range(REQUESTS)])
    return pd.DataFrame(
        {
            "request": np.repeat(np.arange(REQUESTS), ITEMS),
            "entity": np.repeat(np.arange(REQUESTS) % 20, ITEMS),
            "item": np.tile([f"i{one}" for one in range(ITEMS)], REQUESTS),
            "label": labels,
            "value": rng.integers(1, 80, REQUESTS * ITEMS).astype(float),
            "p": np.clip(0.15 + 0.2 * labels + rng.normal(0, 0.1, REQUESTS * ITEMS), 0.01, 0.99),
            "q": rng.random(REQUESTS * ITEMS),
        }
    )


def by_loop(rows: pd.DataFrame, scores: str, cap: float) -> dict[str, float]:
    """The same figures, request by request."""
    found: dict[str, list[float]] = {"hits_at_5": [], "revenue_at_5": [], "top_1": [], "any_hit_at_5": []}
    for _, part in rows.groupby("request"):
        page = part.sort_values(scores, ascending=False).head(5)
        found["hits_at_5"].append(page["label"].sum())
        found["revenue_at_5"].append(min((page["label"] * page["value"]).sum(), cap))
        found["top_1"].append(page["label"].iloc[0])
        found["any_hit_at_5"].append(float(page["label"].any()))
    return {name: float(np.mean(values)) for name, values in found.items()}


def evaluation_of(card: Problem) -> Evaluation:
    """Of a model and a random order."""
    rows = rows_of()
    window, scores = Window.of(rows, card), rows["p"].to_numpy()
    metrics, point = all_metrics(window, scores), (CurvePoint(x=0.5, y=0.5, rows=9),)
    parts = tuple(Slice(by=by, value="1", requests=9, metrics=metrics) for by in ("c_is_uk", "c_is_known"))
    model = ModelResult(
        name="gbdt", kind="gbdt", metrics=metrics, validation_metrics=metrics, calibration_by_month={},
        latency=Latency(p50_ms=0.5, p99_ms=1, class_ms=1), size_bytes=1, fit_seconds=1, bundle_hash="",
        precision_recall=point, reliability=point, importance=(), slices=parts,
    )  # fmt: skip
    baselines = {name: ranking_metrics(window, rows["q"].to_numpy()) for name in ("random", "popularity")}
    return Evaluation(
        problem="retail", window="", requests=REQUESTS, rows=len(rows), positives=2 * REQUESTS, base_rate=1 / 6,
        models=(model,), baselines=baselines | {"bought_before": baselines["random"]}, chosen="gbdt", chosen_because="",
    )  # fmt: skip


def replay_of(card: Problem) -> ReplayResult:
    """What a replay of the same requests found."""
    hits = Figure(name="hits_at_5", formula="hits_at_k", metric="hits_at_5", estimate=1.5, low=1.4, high=1.6,
                  requests=60, clusters=20, revision="toy-v1-aaaaaa", arm="alone", role="primary")  # fmt: skip
    worth = hits.model_copy(update={"name": "revenue", "formula": "revenue", "metric": "revenue_at_5", "estimate": 42})
    return ReplayResult(
        name="a", visits=60, passes=1, sent=60, failed=0, seconds=1.0, latency_ms={"p50": 1.0, "p99": 2.0},
        kpis=(hits, worth), baselines=baseline_figures(recording(), card.requirements.k),
    )  # fmt: skip


def recording() -> Recording:
    """The requests, with a random order as a baseline."""
    rows, day = rows_of(), pd.Timestamp("2024-03-01")
    names = [f"r{number:03d}" for number in range(REQUESTS)]
    units = [f"u{number % 20}" for number in range(REQUESTS)]
    asked = pd.DataFrame({"request_id": names, "entity": units, "unit": units, "as_of": [day] * REQUESTS})
    nothing = pd.DataFrame(columns=["request_id", "unit", "name", "item", "value", "at"])
    return record(asked, rows, nothing, {"random": rows["q"].to_numpy()})


def run_of(card: Problem) -> RunRecord:
    """A run that evaluated and replayed."""
    checks = judge(card, Candidacy("gbdt", evaluation_of(card), lambda: 0.0))
    facts = {
        "evaluate": {"evaluation": evaluation_of(card).model_dump()},
        "gates": {"chosen": "gbdt", "by_candidate": {"gbdt": [one.model_dump() for one in checks]}},
        "replay": replay_of(card).model_dump(),
    }
    started = datetime(2026, 1, 1, tzinfo=UTC)
    steps = [StepRecord(name=n, status="ok", started_at=started, seconds=1, facts=f) for n, f in facts.items()]
    return RunRecord(problem="retail", pipeline_run="run-1", steps=tuple(steps))


def test_training_measures_the_first_five(card: Problem) -> None:
    rows = rows_of()
    window = Window.of(rows, card)
    found = all_metrics(window, rows["p"].to_numpy())
    assert {name for name in found if "_at_" in name or name == "top_1"} == FIVE
    expected = by_loop(rows, "p", window.revenue_cap)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert set(found) >= set(of_models(ranking=True, k=5))
    assert set(ranking_metrics(window, rows["q"].to_numpy())) == FIVE


def test_revenue_follows_the_page_and_its_cap_is_that_of_the_revenue(card: Problem) -> None:
    (revenue,) = (one for one in card.requirements.kpis if one.name == "revenue")
    assert (revenue.k, revenue.metric("bought")) == (5, "revenue_at_5")
    raw = card.model_dump(mode="json", by_alias=True)
    raw["requirements"]["kpis"].append(
        {"name": "spent", "formula": "outcome_value", "outcome": "order", "cap": 7, "direction": "higher",
         "role": "report", "per": "request"}
    )  # fmt: skip
    raw["requirements"]["kpis"].append(
        {"name": "worth", "formula": "revenue", "outcome": "order", "cap": 7, "direction": "higher", "role": "report",
         "per": "request"}
    )  # fmt: skip
    assert Window.of(rows_of(), parse_card(raw)).revenue_cap == revenue.cap == 200


def test_models_are_compared_on_that_page(card: Problem) -> None:
    rows = rows_of()
    window = Window.of(rows, card)
    good, random = (Scored(name, rows[name].to_numpy()) for name in ("p", "q"))
    found = compare(window, "hits_at_5", good, random, seed=1)
    assert found.reference == pytest.approx(by_loop(rows, "q", 200.0)["hits_at_5"])
    assert found.low > 0


def test_gates_read_the_first_five(card: Problem) -> None:
    checks: dict[str, Check] = {
        one.name: one for one in judge(card, Candidacy("gbdt", evaluation_of(card), lambda: 0.0))
    }
    beats = checks["beats_baselines.random"]
    assert beats.holds
    assert beats.measured.startswith("hits_at_5 ")
    assert checks["slices_hold.c_is_uk:1"].measured.startswith("hits_at_5 ")


@pytest.mark.parametrize("gate", ["beats_baselines", "not_worse_than_champion", "slices_hold"])
def test_a_gate_that_asks_for_another_page_is_a_fault_that_names_the_cards_k(retail_card: Problem, gate: str) -> None:
    with pytest.raises(CardError) as raised:
        parse_card(with_k(retail_card, 5, **{gate: "hits_at_7"}))
    (line,) = raised.value.cause.splitlines()
    assert line.startswith("operation.gates[")
    assert "hits_at_7 is not measured" in line
    assert "the k of this card is 5; known: " in line
    assert "hits_at_5" in line


@pytest.mark.parametrize("metric", ["any_hit_at_7", "clicks_at_7", "top_1_at_7"])
def test_what_is_no_metric_at_any_k_is_not_blamed_on_the_k(retail_card: Problem, metric: str) -> None:
    with pytest.raises(CardError) as raised:
        parse_card(with_k(retail_card, 5, beats_baselines=metric))
    assert "kind ranking; known: " in raised.value.cause


def test_a_selection_by_another_page_is_one_too(retail_card: Problem) -> None:
    raw = with_k(retail_card, 5)
    raw["data"]["selection"] |= {"metric": "hits_at_10", "direction": "higher"}
    with pytest.raises(CardError) as raised:
        parse_card(raw)
    assert raised.value.cause.startswith("data.selection.metric: hits_at_10 is not measured for kind ranking; the k of")
    raw["data"]["selection"]["metric"] = "hits_at_5"
    assert parse_card(raw).data.selection.metric == "hits_at_5"


def test_several_ks_are_told_apart_by_the_goal(retail_card: Problem) -> None:
    """The goal's page is the card's; a KPI with another k keeps its own."""
    assert (retail_card.requirements.k, {one.k for one in retail_card.requirements.kpis}) == (10, {None, 5, 10})
    raw = with_k(retail_card, 3)
    assert parse_card(raw).requirements.k == 3
    for one in raw["requirements"]["kpis"]:
        one["k"] = None if one["formula"] == "revenue" else one["k"]
        if one["name"] == "hits_at_3":
            one |= {"formula": "top_1", "k": None}
    for gate in raw["operation"]["gates"]:
        gate["metric"] = gate["metric"] and "hits_at_5"
    assert parse_card(raw).requirements.k == 5  # of the only KPI that has one


def test_baselines_of_a_replay_are_measured_on_that_page(card: Problem) -> None:
    (figure,) = baseline_figures(recording(), card.requirements.k)
    assert figure.metric == "hits_at_5"
    assert figure.estimate == pytest.approx(by_loop(rows_of(), "q", 200.0)["hits_at_5"])


def test_the_report_says_five(card: Problem) -> None:
    html = render(run_of(card), card)
    for text in ("hits@5", "NDCG@5", "value@5", "Hits among the first 5, against baselines", "the service"):
        assert text in html
    for text in ("@10", "first 10", "first ten"):
        assert text not in html


def test_the_summary_and_the_tables_say_five(card: Problem, capsys: pytest.CaptureFixture[str]) -> None:
    found = summarize(run_of(card), card)
    assert found["replay"]["hits_at_5"] == 1.5
    assert found["replay"]["revenue_capped"] == 42
    assert "hits_at_10" not in found["replay"]
    assert found["baselines"]["random"] == pytest.approx(by_loop(rows_of(), "q", 200.0)["hits_at_5"])
    show_models(evaluation_of(card).model_dump())
    show_result(replay_of(card))
    text = capsys.readouterr().out
    assert "hits@5" in text
    assert "hits among the first 5" in text
    assert text.count("hits_at_5") == 2  # among the KPIs, and beside the baselines
