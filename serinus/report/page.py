"""Renders a run as one HTML page that works offline, prints, and fits a phone.

Invariant: any step may be missing or failed; the page then says so first and shows what is known. Everything that came
from data is escaped by the template engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from serinus.core.card import Problem
from serinus.core.card.steps import four_steps
from serinus.core.metric import family_of, of_family
from serinus.core.run import RunRecord
from serinus.core.verdict import Check, Outcome, warnings
from serinus.files import DISK
from serinus.report import plots, rollouts
from serinus.report.svg import bars
from serinus.training.results import Evaluation

# Metrics by their families; k is that of the metric.
_COLUMNS = (
    ("hits", "hits@{k}", "{:.3f}"),
    ("auc", "AUC", "{:.3f}"),
    ("average_precision", "AP", "{:.3f}"),
    ("normalized_entropy", "NE", "{:.4f}"),
    ("calibration_ratio", "calibration", "{:.3f}"),
    ("ece", "ECE", "{:.4f}"),
    ("ndcg", "NDCG@{k}", "{:.3f}"),
    ("revenue", "value@{k}", "{:.2f}"),
)
_ORDER = {Outcome.ERROR: 0, Outcome.FAIL: 1, Outcome.NOT_APPLICABLE: 2, Outcome.PASS: 3}


def render(run: RunRecord, card: Problem | None = None) -> str:
    """The page as text; with the four steps of the problem where its card is given."""
    environment = Environment(
        loader=FunctionLoader(_text), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["n"] = lambda value: f"{value:,}" if isinstance(value, int) else value
    style = Markup(_text("page.css"))  # noqa: S704 - our own file; escaped, its quotes and arrows would mean nothing
    return environment.get_template("page.html").render(
        style=style, steps=four_steps(card) if card else [], **_model(run)
    )


def _text(name: str) -> str:
    return resources.files("serinus.report").joinpath(name).read_text(encoding="utf-8")


def write(run: RunRecord, path: Path, card: Problem | None = None) -> None:
    """Replaces the file as a whole."""
    DISK.replace(path, render(run, card))


def _model(run: RunRecord) -> dict[str, Any]:
    """What the template shows."""
    raw = run.facts("evaluate").get("evaluation")
    evaluation = Evaluation.model_validate(raw) if raw else None
    return {
        "run": run,
        "failure": run.failure(),
        "prepare": run.facts("prepare"),
        "features": run.facts("features"),
        "training": run.facts("training_set"),
        "register": run.facts("register"),
        "materialize": run.facts("materialize"),
        "deploy": run.facts("deploy"),
        "contracts": _contracts(run),
        "gates": {name: _urgent_first(checks) for name, checks in run.gates().items()},
        "warned": {name: warnings(checks) for name, checks in run.gates().items()},
        "evaluation": evaluation,
        "models": _table(evaluation) if evaluation else None,
        "slices": _slices(evaluation) if evaluation else [],
        "plots": _plots(evaluation) if evaluation else [],
        "importance": plots.importance(evaluation) if evaluation else "",
        "replay": _replay(run),
        "rollouts": rollouts.section(run),
        "timing": plots.timing(run.steps) if run.steps else "",
        "seconds": sum(step.seconds for step in run.steps),
        "imports": sum(step.import_seconds for step in run.steps),
        "peak": max((step.peak_mb for step in run.steps), default=0.0),
    }


def _replay(run: RunRecord) -> dict[str, Any] | None:
    """KPIs and baselines with their intervals as text; None when nothing was replayed."""
    result = run.facts("replay")
    if not result.get("kpis"):
        return None
    metric = next((one.get("metric", "") for one in result["baselines"]), "")
    same = [dict(one, name="the service") for one in result["kpis"] if metric and one.get("metric") == metric]
    several = len({_division(one) for one in result["kpis"]}) > 1
    return {
        "result": result,
        "kpis": [_figure(one, of=_division(one) if several else "") for one in result["kpis"]],
        "baselines": [_figure(one) for one in (*same, *result["baselines"])],
        "k": family_of(metric)[1],
        "stages": bars(
            "Mean time of a request by stage, ms",
            [(one["name"], one["mean_ms"], f"{one['mean_ms']:.2f}") for one in result["stages"]],
        ),
        "missing": bars(
            "Ids without a usable row, by view",
            [(view, share, f"{100 * share:.1f} %") for view, share in result["missing"].items()],
        ),
    }


def _division(one: Mapping[str, Any]) -> str:
    """Of which answers a figure is."""
    return " ".join(filter(None, (one.get(name, "") for name in ("revision", "arm", "role"))))


def _figure(one: Mapping[str, Any], of: str = "") -> dict[str, str]:
    """Its numbers as text; a bound without an end is infinite."""
    ends = {"estimate": "", "low": "−∞", "high": "∞"}
    numbers = {key: none if one[key] is None else f"{one[key]:.4g}" for key, none in ends.items()}
    return {
        "name": f"{one['name']} ({of})" if of else one["name"],
        "requests": f"{one['requests']:,}",
        "clusters": f"{one['clusters']:,}",
        **numbers,
    }


def _contracts(run: RunRecord) -> list[dict[str, Any]]:
    titles = {"contract_raw": "Raw log", "contract_training": "Training set"}
    return [
        {"title": title, "facts": run.facts(step), "checks": _checks(run, step)}
        for step, title in titles.items()
        if run.facts(step)
    ]


def _checks(run: RunRecord, step: str) -> list[Check]:
    """What needs attention first."""
    return _urgent_first([Check.model_validate(one) for one in run.facts(step).get("checks", [])])


def _urgent_first(checks: list[Check]) -> list[Check]:
    return sorted(checks, key=lambda check: _ORDER[check.outcome])


def _table(evaluation: Evaluation) -> dict[str, Any]:
    found = [(of_family(family, evaluation.models[0].metrics), head, form) for family, head, form in _COLUMNS]
    shown = [(key, head.format(k=family_of(key)[1]), form) for key, head, form in found if key]
    rows = [
        {
            "name": one.name,
            "kind": one.kind,
            "chosen": one.name == evaluation.chosen,
            "cells": [form.format(one.metrics[key]) for key, _, form in shown],
            "months": ", ".join(f"{value:.2f}" for _, value in sorted(one.calibration_by_month.items())),
            "size": f"{one.size_bytes / 1024:.0f} kB",
            "latency": f"{one.latency.p50_ms:.2f} / {one.latency.p99_ms:.2f}",
        }
        for one in evaluation.models
    ]
    rows += [
        {
            "name": name, "kind": "baseline", "chosen": False,
            "cells": [form.format(metrics[key]) if key in metrics else "" for key, _, form in shown],
            "months": "", "size": "", "latency": "",
        }
        for name, metrics in evaluation.baselines.items()
    ]  # fmt: skip
    ranking = bool(of_family("hits", evaluation.models[0].metrics))
    return {"heads": [head for _, head, _ in shown], "rows": rows, "ranking": ranking}


def _slices(evaluation: Evaluation) -> list[dict[str, Any]]:
    metric, title = plots.quality_metric(evaluation)
    return [
        {"by": part.by, "value": part.value, "requests": part.requests, "title": title,
         "quality": f"{part.metrics[metric]:.3f}", "calibration": f"{part.metrics['calibration_ratio']:.3f}"}
        for part in evaluation.model(evaluation.chosen).slices
    ]  # fmt: skip


def _plots(evaluation: Evaluation) -> list[Any]:
    drawn = (plots.pareto, plots.precision_recall, plots.reliability, plots.calibration_by_month)
    return [figure for figure in (draw(evaluation) for draw in drawn) if figure]
