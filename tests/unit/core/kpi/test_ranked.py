"""Figures of ranked requests against small cases worked by hand, and against a loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serinus.core.kpi import ranked as kpi


def _rows(scores: list[float], labels: list[int], values: list[float] | None = None) -> kpi.RankedRows:
    request = np.zeros(len(scores), dtype=np.int64)
    worth = np.array(values or [0.0] * len(scores), dtype=float)
    return kpi.RankedRows.of(request, np.array(scores), np.array(labels, dtype=float), worth)


def test_hits_count_positives_among_the_first_k() -> None:
    rows = _rows([0.1, 0.9, 0.5, 0.4], [1, 1, 0, 1])
    assert kpi.hits_at(rows, 1).tolist() == [1]
    assert kpi.hits_at(rows, 3).tolist() == [2]
    assert kpi.top_1(rows).tolist() == [1]
    assert kpi.any_hit_at(rows, 3).tolist() == [1]


def test_impressions_are_what_was_shown_among_the_first_k() -> None:
    rows = _rows([0.1, 0.9, 0.5, 0.4], [1, 1, 0, 1])
    assert kpi.shown_at(rows, 3).tolist() == [3]
    assert kpi.shown_at(rows, 10).tolist() == [4]  # a shorter list has fewer


def test_ties_keep_the_order_of_the_rows() -> None:
    assert _rows([0.5, 0.5, 0.5], [0, 0, 1]).rank.tolist() == [0, 1, 2]


def test_revenue_is_capped_a_request() -> None:
    rows = _rows([0.9, 0.8, 0.7], [1, 1, 0], [150.0, 100.0, 999.0])
    assert kpi.revenue_at(rows, 10, cap=200.0).tolist() == [200.0]
    assert kpi.revenue_at(rows, 1, cap=200.0).tolist() == [150.0]


def test_one_huge_order_does_not_decide() -> None:
    """Trap: uncapped revenue is ruled by single orders of 168,470."""
    huge = _rows([0.9], [1], [168_470.0])
    assert kpi.revenue_at(huge, 10, cap=200.0).tolist() == [200.0]


def test_ndcg_is_one_for_the_best_order_and_zero_without_positives() -> None:
    assert kpi.ndcg_at(_rows([0.9, 0.8, 0.1], [1, 1, 0]), 10).tolist() == [1.0]
    assert kpi.ndcg_at(_rows([0.9, 0.8], [0, 0]), 10).tolist() == [0.0]
    worked = (1 / np.log2(3)) / 1.0
    assert kpi.ndcg_at(_rows([0.9, 0.8], [0, 1]), 10)[0] == pytest.approx(worked)


def test_log_loss_is_finite_at_the_ends() -> None:
    loss = kpi.log_loss(np.array([0.0, 1.0, 0.5]), np.array([1.0, 1.0, 0.0]))
    assert np.isfinite(loss).all()
    assert loss[2] == pytest.approx(np.log(2))


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(0, 50)), min_size=1, max_size=12),
        min_size=1,
        max_size=6,
    )
)
def test_many_requests_at_once_equal_one_by_one(requests: list[list[tuple[int, int, int]]]) -> None:
    """A live request is the case of one group."""
    flat = [row for request in requests for row in request]
    number = np.repeat(np.arange(len(requests)), [len(request) for request in requests])
    scores, labels, values = (np.array([row[i] for row in flat], dtype=float) for i in range(3))
    together = kpi.RankedRows.of(number, scores, labels, values)
    alone = [_rows([r[0] for r in q], [r[1] for r in q], [float(r[2]) for r in q]) for q in requests]
    for formula in (lambda r: kpi.hits_at(r, 3), lambda r: kpi.ndcg_at(r, 3), lambda r: kpi.revenue_at(r, 3, 40.0)):
        assert formula(together).tolist() == pytest.approx([formula(one)[0] for one in alone])
