"""The report: complete for rankings and scoring, useful for failed runs, safe with hostile text, and self-contained."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from serinus.core.run import RunRecord, StepError, StepRecord
from serinus.report import render, write
from serinus.report.plots import quality_metric
from serinus.report.svg import Axis, Series, around, bars, chart
from serinus.training.results import Evaluation

HOSTILE = "<script>alert('x')</script>\"&"
RANKING = {"hits_at_10": 1.5, "ndcg_at_10": 0.28, "revenue_at_10": 46.0}
BASE = {"auc": 0.75, "average_precision": 0.15, "normalized_entropy": 0.9, "calibration_ratio": 1.0, "ece": 0.002}


def _model(name: str, metrics: dict[str, float]) -> dict[str, Any]:
    curve = [{"x": x / 10, "y": 0.5 - x / 25, "rows": 10} for x in range(11)]
    return {
        "name": name, "kind": "gbdt", "metrics": metrics, "validation_metrics": metrics,
        "calibration_by_month": {"2011-10": 1.01, "2011-11": 0.98},
        "latency": {"p50_ms": 0.6, "p99_ms": 0.9, "class_ms": 1.0}, "size_bytes": 760_000, "fit_seconds": 6.0,
        "bundle_hash": "a" * 64, "precision_recall": curve, "reliability": curve, "importance": [["x_count", 0.6]],
        "slices": [{"by": "c_is_uk", "value": "1", "requests": 10, "metrics": metrics}],
    }  # fmt: skip


def _evaluation(metrics: dict[str, float], baseline: dict[str, float], name: str = "gbdt") -> dict[str, Any]:
    return {
        "problem": "toy", "window": "a to b", "requests": 4_851, "rows": 485_100, "positives": 22_677,
        "base_rate": 0.047,
        "models": [_model("linear", metrics), _model(name, metrics)], "baselines": {"popularity": baseline},
        "chosen": name, "chosen_because": "it is the best",
        "comparisons": [
            {"metric": "log_loss", "candidate": name, "against": "linear", "difference": -0.002, "low": -0.003,
             "high": -0.001, "reference": 0.17, "entities": 2_556}
        ],
    }  # fmt: skip


def _check(name: str, outcome: str, **changes: str) -> dict[str, Any]:
    return {"name": name, "outcome": outcome, "severity": "critical", "measured": "3", "allowed": "2"} | changes


def _run(evaluation: dict[str, Any] | None, *, text: str = "", failure: StepError | None = None) -> RunRecord:
    facts: dict[str, dict[str, Any]] = {
        "prepare": {"source": f"x.csv{text}", "rows": 541_909, "snapshot_time": "2011"},
        "contract_raw": {
            "where": text, "checks": [_check("fine", "pass"), _check(f"odd{text}", "fail", measured=f"9{text}")],
            "accepted": 541_907, "quarantined": 2,
        },
        "features": {
            "cleaning": [{"rule": f"duplicates{text}", "rows": 5_268}],
            "views": [{"name": "item_daily", "entity": "item", "rows": 1_000, "columns": 12}],
        },
        "training_set": {
            "requests": {"train": 9_178}, "rows": {"train": 305_639}, "positives": {"train": 42_000}, "columns": 42,
            "sampling_rate": 0.3,
        },
        "evaluate": {"evaluation": evaluation} if evaluation else {},
        "gates": {"chosen": "gbdt", "by_candidate": {
            "linear": [_check("slices_hold.c_is_uk:0", "fail", severity="warning"), _check("golden_rows", "pass")],
            f"gbdt{text}": [_check("calibrated", "error", reason=f"broke{text}", measured="")]}},
        "register": {"model": "toy", "version": 2, "versions": [
            {"candidate": "linear", "version": 1, "bundle_hash": "c" * 64, "aliases": []},
            {"candidate": f"gbdt{text}", "version": 2, "bundle_hash": "b" * 64, "aliases": ["challenger"]}]},
        "materialize": {"as_of": "2011", "views": [{"name": "item_daily", "rows": 3_799}]},
        "deploy": {"wanted_version": 2},
    }  # fmt: skip
    steps = [
        StepRecord(name=name, status="ok", started_at=datetime(2026, 1, 1, tzinfo=UTC), seconds=5, import_seconds=2,
                   peak_mb=900, facts=found)
        for name, found in facts.items()
    ]  # fmt: skip
    if failure:
        steps[-1] = steps[-1].model_copy(update={"status": "failed", "error": failure})
    return RunRecord(problem="toy", pipeline_run=f"run-1{text}", steps=tuple(steps), ids={"pipeline_run": "run-1"})


def test_a_ranking_is_shown_whole() -> None:
    html = render(_run(_evaluation(BASE | RANKING, RANKING)))
    for text in (
        "hits@10",
        "NDCG@10",
        "4,851 requests",
        "541,909",
        "5,268",
        "nobody was ever shown",
        "x_count",
        "0.98",
    ):
        assert text in html
    assert html.count("<figure>") == 6
    assert "<b>0 of 1</b>" in html


@pytest.mark.parametrize("k", [1, 5, 10, 50])
def test_a_ranking_of_any_page_says_that_nobody_saw_it(k: int) -> None:
    at_k = {name.replace("_10", f"_{k}"): value for name, value in RANKING.items()}
    html = render(_run(_evaluation(BASE | at_k, at_k)))
    assert f"hits@{k}<" in html
    assert "nobody was ever shown" in html
    assert k == 10 or "@10<" not in html


def test_every_candidate_that_is_registered_shows_its_own_gates() -> None:
    html = render(_run(_evaluation(BASE | RANKING, RANKING)))
    assert "gates passed by linear</span><b>1 of 2</b>" in html
    assert html.index("Candidate linear</h3>") < html.index("golden_rows") < html.index("Candidate gbdt</h3>")
    assert '<td class="fail">slices_hold.c_is_uk:0</td>' in html, "a failed warning stands beside its version"


def test_figures_of_a_replay_name_their_revision_where_there_are_several_and_have_no_end_where_there_is_none() -> None:
    figure = {"name": "error_rate", "formula": "error_rate", "estimate": 0.0, "low": 0.0, "high": 0.02, "requests": 9,
              "clusters": 9, "arm": "stable", "role": "primary"}  # fmt: skip
    two = [figure | {"revision": "toy-v1-aaaaaa"}, figure | {"revision": "toy-v2-bbbbbb", "high": None}]
    for kpis, said in ((two[:1], "<td>error_rate</td>"), (two, "<td>error_rate (toy-v2-bbbbbb stable primary)</td>")):
        facts = {"kpis": kpis, "baselines": [], "stages": [], "missing": {}, "visits": 9, "passes": 1, "failed": 0,
                 "latency_ms": {"p50": 1.0, "p99": 2.0}, "counters": {}, "note": "", "example": "",
                 "seconds": 1.0, "sent": 9}  # fmt: skip
        run = _run(_evaluation(BASE | RANKING, RANKING))
        step = run.steps[-1].model_copy(update={"name": "replay", "facts": facts})
        html = render(run.model_copy(update={"steps": (*run.steps, step)}))
        assert said in html
    assert "0 to ∞" in html


def test_scoring_has_no_ranking_figures() -> None:
    html = render(_run(_evaluation(BASE, {"average_precision": 0.1})))
    assert "hits@10" not in html
    assert "nobody was ever shown" not in html
    assert "average precision" in html


def test_a_failed_run_says_so_first() -> None:
    error = StepError(error="GateFailed", headline="candidate gbdt was refused", cause="hits 1.1", hint="see the gates")
    html = render(_run(_evaluation(BASE | RANKING, RANKING), failure=error))
    body = html.split("<body>")[1]
    assert body.index("The run failed in step deploy") < body.index("<h2>Candidates")
    for text in ("candidate gbdt was refused", "hits 1.1", "see the gates"):
        assert text in body


@pytest.mark.parametrize("kept", range(10))
def test_any_step_may_be_missing(kept: int) -> None:
    run = _run(_evaluation(BASE | RANKING, RANKING))
    assert "</html>" in render(run.model_copy(update={"steps": run.steps[:kept]}))
    assert "</html>" in render(run.model_copy(update={"steps": run.steps[kept:]}))


def test_a_run_without_any_record_is_a_page_too() -> None:
    assert "No step of this run left a record" in render(RunRecord(problem="toy", pipeline_run="r", steps=()))


def test_hostile_text_is_shown_and_never_run() -> None:
    evaluation = _evaluation(BASE | RANKING, RANKING, name=f"gbdt{HOSTILE}")
    html = render(_run(evaluation, text=HOSTILE))
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_checks_that_need_attention_come_first() -> None:
    html = render(_run(None))
    assert html.index("odd") < html.index("fine")


def test_nothing_is_loaded_from_elsewhere() -> None:
    html = render(_run(_evaluation(BASE | RANKING, RANKING)))
    assert re.findall(r"(?:src|href|url|@import)\s*[=(]?\s*[\"']?\s*(?:https?:)?//", html) == []
    assert "http" not in html.replace("http-equiv", "")
    assert len(html) < 250_000


def test_the_style_is_not_escaped() -> None:
    style = render(_run(None)).split("<style>")[1].split("</style>")[0]
    assert '"Segoe UI"' in style
    assert "figure > svg" in style


def test_writing_replaces_the_file_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep/report.html"
    write(_run(None), target)
    write(_run(None), target)
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


def test_the_same_run_gives_the_same_page() -> None:
    run = _run(_evaluation(BASE | RANKING, RANKING))
    assert render(run) == render(run)


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (Axis("x", 0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (Axis("x", 0.01, 15, log=True), [0.01, 0.1, 1, 10]),
        (Axis("x", -1, 1), [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round_and_inside(axis: Axis, expected: list[float]) -> None:
    assert axis.ticks() == pytest.approx(expected)


def test_equal_values_still_make_an_axis() -> None:
    axis = around("x", [2.0, 2.0])
    assert axis.low < 2.0 < axis.high
    assert "polyline" in chart("t", axis, axis, [Series("s", [(2.0, 2.0)])])


def test_bars_of_zero_are_drawn() -> None:
    assert "<rect" in bars("t", [("a", 0.0, "0")])
    assert bars("t", []) == ""


def test_the_first_plot_is_of_a_metric_that_tells_the_models_apart() -> None:
    """Of lists of ten items all hits are among the first ten, whoever ranks them."""
    better = _evaluation(BASE | RANKING, BASE)
    better["models"][1]["metrics"] = BASE | RANKING | {"hits_at_10": 1.6}
    assert quality_metric(Evaluation.model_validate(better))[0] == "hits_at_10"
    better["models"][1]["metrics"] = BASE | RANKING | {"average_precision": 0.2}
    assert quality_metric(Evaluation.model_validate(better))[0] == "average_precision"
