"""The registry of KPI formulas, and those that Serinus brings along.

Invariant: a value depends on its own request only. A formula is added as one more `Formula` below; code that is not of
this package (a test, an experiment) calls `register`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serinus.core.fields import Kind
from serinus.core.kpi import ranked
from serinus.core.kpi.formula import FEWEST_PAYERS, Formula, Guards
from serinus.core.kpi.rows import Rows

if TYPE_CHECKING:
    from serinus.core.kpi.kpi import Kpi

Floats = NDArray[np.float64]
_RANKING = (Kind.RANKING,)


def _depth(rows: Rows, kpi: Kpi) -> int:
    """The places that count; without a k all that was shown."""
    return kpi.k or len(rows.shown.probabilities)


def _clicks_and_places(rows: Rows, kpi: Kpi) -> tuple[Floats, ...]:
    """A page that stayed empty counts with all its places: whom a version fails may not leave the comparison."""
    k, shown = _depth(rows, kpi), rows.shown.ranked
    return ranked.hits_at(shown, k), np.where(rows.failed, float(k), ranked.shown_at(shown, k))


def _hits(rows: Rows, kpi: Kpi) -> tuple[Floats, ...]:
    return (ranked.hits_at(rows.shown.ranked, _depth(rows, kpi)),)


def _top_1(rows: Rows, _: Kpi) -> tuple[Floats, ...]:
    return (ranked.top_1(rows.shown.ranked),)


def _any_hit(rows: Rows, kpi: Kpi) -> tuple[Floats, ...]:
    return (ranked.any_hit_at(rows.shown.ranked, _depth(rows, kpi)),)


def _revenue(rows: Rows, kpi: Kpi) -> tuple[Floats, ...]:
    return (ranked.revenue_at(rows.shown.ranked, _depth(rows, kpi), kpi.cap or np.inf),)


def _log_loss(rows: Rows, _: Kpi) -> tuple[Floats, ...]:
    shown = rows.shown
    return (ranked.mean_by_request(shown.ranked, ranked.log_loss(shown.probabilities, shown.ranked.labels)),)


def _predicted_and_observed(rows: Rows, _: Kpi) -> tuple[Floats, ...]:
    shown = rows.shown
    return shown.ranked.total(shown.probabilities), shown.ranked.total(shown.ranked.labels)


def _any_outcome(rows: Rows, _: Kpi) -> tuple[Floats, ...]:
    return (np.minimum(rows.total(rows.happened.request), 1.0),)


def _outcome_value(rows: Rows, kpi: Kpi) -> tuple[Floats, ...]:
    """At most `cap` a request: one huge order must not decide."""
    return (np.minimum(rows.total(rows.happened.request, rows.happened.value), kpi.cap or np.inf),)


def _failed(rows: Rows, _: Kpi) -> tuple[Floats, ...]:
    return (rows.failed.astype(np.float64),)


def _slow(rows: Rows, kpi: Kpi) -> tuple[Floats, ...]:
    return ((rows.latency_ms > (kpi.threshold_ms or np.inf)).astype(np.float64),)


def _cold(rows: Rows, _: Kpi) -> tuple[Floats, ...]:
    return (rows.cold_start.astype(np.float64),)


def _defaulted(rows: Rows, _: Kpi) -> tuple[Floats, ...]:
    return ((rows.defaulted > 0).astype(np.float64),)


# What baselines, which are orders without a model, are measured by as well.
HITS_AT_K = Formula(
    "hits_at_k", _hits, needs_scores=True, for_kinds=_RANKING, guards=Guards(("k",)), is_share=False, metric="hits"
)
_BUILT_IN = (
    Formula(
        "ctr", _clicks_and_places, columns=("_clicks", "_shown"), needs_scores=True, for_kinds=_RANKING,
        guards=Guards(needs=("k",)), whole_pages=True,
    ),
    HITS_AT_K,
    Formula("top_1", _top_1, needs_scores=True, for_kinds=_RANKING, metric="top_1"),
    Formula(
        "any_hit_at_k", _any_hit, needs_scores=True, for_kinds=_RANKING, guards=Guards(needs=("k",)), metric="any_hit"
    ),
    Formula("conversion", _any_hit, needs_scores=True),  # a hit anywhere among what was shown
    Formula(
        "revenue", _revenue, needs_scores=True, guards=Guards(needs=("cap",), min_positive=FEWEST_PAYERS),
        is_share=False, least_effect=float("-inf"), metric="revenue", k_of_card=True,
    ),
    Formula("outcome_rate", _any_outcome, needs_outcomes="all", survives_shadow=False, guards=Guards(("outcome",))),
    Formula(
        "outcome_value", _outcome_value, needs_outcomes="all", survives_shadow=False,
        guards=Guards(needs=("outcome", "cap"), min_positive=FEWEST_PAYERS), is_share=False, least_effect=float("-inf"),
    ),
    # What names a request came of that request, and shows no return.
    Formula("return_within", _any_outcome, needs_outcomes="of_unit", survives_shadow=False, guards=Guards(("window",))),
    Formula(
        "log_loss", _log_loss, needs_scores=True, guards=Guards(of_label=True), answered_only=True, is_share=False
    ),
    Formula(
        "calibration", _predicted_and_observed, estimator="calibration", columns=("_predicted", "_observed"),
        needs_scores=True, guards=Guards(of_label=True), is_share=False,
    ),
    Formula("error_rate", _failed, estimator="count", known_at_once=True),
    Formula("latency_slo", _slow, estimator="count", known_at_once=True, guards=Guards(needs=("threshold_ms",))),
    Formula("cold_start_share", _cold, known_at_once=True),
    Formula(
        "defaulted_share", _defaulted, known_at_once=True,
        guards=Guards(report_only="tells of callers and of the store, not of a model"),
    ),
)  # fmt: skip
FORMULAS: dict[str, Formula] = {}


def register(formula: Formula) -> Formula:
    """Makes a formula known to cards, logs and rollouts of this process. Raises `ValueError` when its name is taken."""
    if FORMULAS.setdefault(formula.name, formula) is not formula:
        raise ValueError(f"there is a formula {formula.name} already")
    return formula


def formula_of(name: str) -> Formula:
    """By its name. Raises `ValueError` for an unknown one."""
    if name not in FORMULAS:
        raise ValueError(f"{name} is no formula; known: {', '.join(FORMULAS)}")
    return FORMULAS[name]


for _one in _BUILT_IN:
    register(_one)
