"""Sets rows aside that break a row rule, each with its reasons.

Invariant: accepted and quarantined rows together are the rows of the source, each once; a row is set aside by exactly
those rules whose expectation counts it (the property test holds both to the same number).
GX is not asked which rows these are: its answer to that question takes minutes and a gigabyte on a million rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serinus.validation.columns import MIXED, kind_of, naive_utc
from serinus.validation.plan import Question
from serinus.validation.rules import Bound, NotNull, OneOf, Range, Regex, Unique

REASONS, ROW = "_reasons", "_row"
Flags = NDArray[np.bool_]


def breaking(question: Question, rows: pd.DataFrame) -> Flags:
    """Which rows break the rule of a question; `rows` is the plan's table of that name."""
    rule = question.rule
    if isinstance(rule, Unique):
        keys = rows[list(rule.columns)]
        return np.asarray(keys.duplicated(keep=False) & ~keys.isna().all(axis=1))
    column = rows[question.column]
    if isinstance(rule, NotNull):
        return np.asarray(column.isna())
    if question.flagged:
        return np.asarray(column.notna() & (column != 0))
    return np.asarray(column.notna() & ~_keeps(rule, column))


def split(frame: pd.DataFrame, questions: Sequence[Question], rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows that no question sets aside, and the others with `_reasons` (names of the checks, joined by `; `) and
    `_row` (the row's place in the source, from 0). Without such rows the first is `frame` itself."""
    flags = [breaking(question, rows) for question in questions]
    aside = np.logical_or.reduce(flags) if flags else np.zeros(len(frame), dtype=bool)
    places = np.flatnonzero(aside)
    reasons = np.full(len(places), "", dtype=object)
    for question, flag in zip(questions, flags, strict=True):
        broken = flag[places]
        reasons[broken] = reasons[broken] + f"; {question.rule.title}"
    told = pd.Series(reasons, dtype=object).str.removeprefix("; ").to_numpy()
    quarantined = frame.iloc[places].assign(**{REASONS: told, ROW: places})
    return (frame if not len(places) else frame[~aside].reset_index(drop=True)), quarantined.reset_index(drop=True)


def write(quarantined: pd.DataFrame, path: Path) -> None:
    """Writes quarantined rows as parquet; a column that mixes kinds becomes text, for that may be why it is here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mixed = [column for column in quarantined.columns if kind_of(quarantined[column]) == MIXED]
    texts = {column: quarantined[column].map(str, na_action="ignore") for column in mixed}
    quarantined.assign(**texts).to_parquet(path, index=False)


def _keeps(rule: object, column: pd.Series) -> pd.Series:
    match rule:
        case Range() as limited:
            low, high = limited.limits()
            keeps = pd.Series(True, index=column.index)
            if low is not None:
                keeps &= column >= _bound(low)
            if high is not None:
                keeps &= column <= _bound(high)
            return keeps
        case OneOf(values=values):
            return column.isin(list(values))
        case Regex(pattern=pattern):
            return column.astype(str).str.fullmatch(pattern)
        case _:
            raise TypeError(f"{rule} does not judge single rows")


def _bound(value: Bound) -> float | pd.Timestamp:
    return naive_utc(value) if isinstance(value, datetime) else value
