"""The plots of the report, from an evaluation and the step records.

Invariant: a plot without data is left out; nothing is drawn that was not measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from serinus.core.metric import family_of, of_family
from serinus.core.run import StepRecord
from serinus.report.svg import Axis, Series, around, bars, chart
from serinus.training.results import Evaluation

TOP_INPUTS = 20
_QUALITY = (("hits", "hits among the first {k}"), ("average_precision", "average precision"))


def quality_metric(evaluation: Evaluation) -> tuple[str, str]:
    """The metric that people read first, and its title; the next where all models have the same.

    Whoever ranks as many items as the page has places has all hits on it.
    """
    models = evaluation.models
    named = [(of_family(family, models[0].metrics), title) for family, title in _QUALITY]
    known = [(name, title.format(k=family_of(name)[1])) for name, title in named if name]
    telling = (pair for pair in known if len(models) == 1 or len({one.metrics[pair[0]] for one in models}) > 1)
    return next(telling, known[-1])


def pareto(evaluation: Evaluation) -> Markup:
    """Quality against scoring latency: up and left is better."""
    metric, title = quality_metric(evaluation)
    models = [
        Series(one.name, [(one.latency.p50_ms, one.metrics[metric])], marks=True, labels=(one.name,))
        for one in evaluation.models
    ]
    x = around("scoring latency of one request, p50, ms (log)", [m.latency.p50_ms for m in evaluation.models], log=True)
    y = around(title, [m.metrics[metric] for m in evaluation.models], pad=0.25)
    return chart("Quality against latency: up and left is better", x, y, models)


def precision_recall(evaluation: Evaluation) -> Markup:
    """Precision over recall, one line a model."""
    top = max(point.y for one in evaluation.models for point in one.precision_recall if point.x > 0)
    series = [Series(one.name, [(p.x, min(p.y, top)) for p in one.precision_recall]) for one in evaluation.models]
    base = Series("base rate", [(0.0, evaluation.base_rate), (1.0, evaluation.base_rate)])
    return chart("Precision and recall", Axis("recall", 0, 1), Axis("precision", 0, top * 1.05), [*series, base])


def reliability(evaluation: Evaluation) -> Markup:
    """Observed share over predicted probability; the diagonal is honest."""
    top = max(max(p.x, p.y) for one in evaluation.models for p in one.reliability) * 1.05
    series = [Series(one.name, [(p.x, p.y) for p in one.reliability]) for one in evaluation.models]
    honest = Series("honest", [(0.0, 0.0), (top, top)])
    axes = Axis("mean predicted probability", 0, top), Axis("observed share", 0, top)
    return chart("Calibration: predicted against observed", *axes, [*series, honest])


def calibration_by_month(evaluation: Evaluation) -> Markup:
    """Predicted over observed positives in each month of the window."""
    months = sorted({month for one in evaluation.models for month in one.calibration_by_month})
    if not months:
        return Markup("")
    rows = [
        (f"{month} {one.name}", one.calibration_by_month[month], f"{one.calibration_by_month[month]:.3f}")
        for month in months
        for one in evaluation.models
        if month in one.calibration_by_month
    ]
    return bars("Calibration by month: predicted over observed, 1 is honest", rows)


def importance(evaluation: Evaluation) -> Markup:
    """Share of the rise in log loss when an input is shuffled."""
    best = evaluation.model(evaluation.chosen)
    rows = [(name, share, f"{share:.1%}") for name, share in best.importance[:TOP_INPUTS] if share > 0]
    return bars(f"What {best.name} relies on: rise of the log loss when an input is shuffled", rows)


def timing(steps: Sequence[StepRecord]) -> Markup:
    """Seconds a step; the lighter part is starting its process and importing libraries."""
    rows = [(one.name, one.seconds, f"{one.seconds:.1f} s ({one.import_seconds:.1f} s imports)") for one in steps]
    return bars(
        "Time by step; the lighter part is process start and imports",
        rows,
        split=[min(one.import_seconds, one.seconds) for one in steps],
    )
