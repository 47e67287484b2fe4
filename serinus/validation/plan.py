"""What a suite asks of one table: a question for each check, and the small tables that answer them.

Invariant: every check of the suite has exactly one question, in the same order for every table; a question that the
table cannot answer says why. GX gets only the columns that questions need, because it copies the table for each metric.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from serinus.validation.columns import accepted, as_floats, is_numeric, kind_of, naive_utc, plain
from serinus.validation.contract import Rows, Suite
from serinus.validation.kinds import Kind
from serinus.validation.rules import (
    BaseRule,
    Distinct,
    Finite,
    NotNull,
    OneColumn,
    Range,
    RowRule,
    Rule,
    ShareOf,
    SomeColumns,
    Statistic,
    Unique,
    Varied,
)

Table = Literal["rows", "columns", "figures"]
MISSING = "missing"
# What `plain` makes of whole numbers that a double would change.
_EXACT = (pd.Int64Dtype(), np.dtype(np.uint64))


class HasKind(OneColumn):
    """The column is there and of the kind declared."""

    rule: Literal["column"] = "column"
    kind: Kind

    def _default_name(self) -> str:
        return f"column {self.column}"


class NoOthers(BaseRule):
    """The table has no column but those declared; of these, only the ones that it has count here."""

    rule: Literal["no other columns"] = "no other columns"
    declared: tuple[str, ...]


class RowCount(BaseRule):
    """The table has as many rows as expected."""

    rule: Literal["rows"] = "rows"
    limits: Rows


@dataclass(frozen=True)
class Question:
    """One check: `rule`, asked about `column` of the table `on`. `blocked` says why it cannot be asked.

    `found` are facts about single columns that the answer alone does not tell.
    """

    rule: Rule | HasKind | NoOthers | RowCount
    on: Table
    column: str = ""
    blocked: str = ""
    found: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def missing(self) -> bool:
        """Whether the question is about a column that the source does not have."""
        return str(self.found.get(self.column, "")).startswith(MISSING)

    @property
    def flagged(self) -> bool:
        """Whether `column` is not the rule's own but flags of its rows: 0 where the rule is kept, null where it is."""
        return isinstance(self.rule, RowRule) and self.column == _derived_name(self.rule)


@dataclass(frozen=True)
class Plan:
    """Questions, and the tables that answer them.

    `rows` has the rows of the source, in plain dtypes and with what was derived from them; `columns` one row, the kind
    of each column of the source; `figures` one row, what was computed over many columns.
    """

    questions: tuple[Question, ...]
    tables: Mapping[Table, pd.DataFrame]
    snapshot_time: pd.Timestamp


def plan(suite: Suite, frame: pd.DataFrame, snapshot_time: datetime) -> Plan:
    """The questions of `suite` about `frame`, whose index does not matter."""
    kinds = {column: kind_of(frame[column]) if column in frame else MISSING for column in suite.columns}
    builder = _Builder(suite, frame, kinds)
    questions = [*_schema(suite, frame, kinds), *(builder.question(rule) for rule in suite.rules)]
    seen = {column: [kinds.get(column, "")] for column in map(str, frame.columns)}
    tables: dict[Table, pd.DataFrame] = {
        "rows": pd.DataFrame(builder.rows, index=pd.RangeIndex(len(frame)), copy=False),
        "columns": pd.DataFrame(seen, index=[0]),
        "figures": pd.DataFrame(builder.figures, index=[0]),
    }
    return Plan(tuple(questions), tables, naive_utc(snapshot_time))


def _schema(suite: Suite, frame: pd.DataFrame, kinds: Mapping[str, str]) -> list[Question]:
    unknown = [str(column) for column in frame.columns if column not in suite.columns]
    found = [
        Question(HasKind(column=column, kind=kind), "columns", column, found={column: _seen(column, kinds, unknown)})
        for column, kind in suite.columns.items()
    ]
    if suite.other_columns == "forbidden":
        present = tuple(column for column in suite.columns if kinds[column] != MISSING)
        found.append(Question(NoOthers(declared=present), "columns", found=dict.fromkeys(unknown, "not declared")))
    return [*found, Question(RowCount(limits=suite.rows), "rows")]


def _seen(column: str, kinds: Mapping[str, str], unknown: list[str]) -> str:
    """The kind found; for a missing column, also the unknown column that is most like it."""
    if kinds[column] != MISSING:
        return kinds[column]
    names = {_letters(name): name for name in unknown}
    like = difflib.get_close_matches(_letters(column), names, n=1, cutoff=0.6)
    return f"{MISSING}; there is an undeclared column {names[like[0]]}" if like else MISSING


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _derived_name(rule: BaseRule) -> str:
    return f"({rule.title})"


class _Builder:
    """Collects the columns and figures that the questions of one suite need, each once."""

    def __init__(self, suite: Suite, frame: pd.DataFrame, kinds: Mapping[str, str]) -> None:
        self._suite, self._frame, self._kinds = suite, frame, kinds
        self.rows: dict[str, pd.Series] = {}
        self.figures: dict[str, float] = {}

    def question(self, rule: Rule) -> Question:
        """The question that a rule asks, and what it needs in the tables."""
        blocked = self._blocked(rule)
        if blocked:
            return Question(rule, "rows", blocked=blocked)
        if isinstance(rule, Finite):
            return self._finite(rule)
        if isinstance(rule, Varied):
            return self._varied(rule)
        if isinstance(rule, Unique):
            for column in rule.columns:
                self._column(column)
            return Question(rule, "rows", rule.columns[0])
        if isinstance(rule, Statistic):
            return Question(rule, "rows", self._figure_of(rule))
        if isinstance(rule, Range) and self.rows[self._column(rule.column)].dtype in _EXACT:
            return self._exact_range(rule)
        return Question(rule, "rows", self._column(rule.column))

    def _blocked(self, rule: Rule) -> str:
        missing = [column for column in rule.reads() if self._kinds[column] == MISSING]
        if missing:
            return f"column {missing[0]} is missing"
        if not len(self._frame):
            return "there are no rows"
        if isinstance(rule, NotNull | Unique | Distinct):
            return ""
        for column in rule.reads():
            if self._kinds[column] not in accepted(self._suite.columns[column]):
                return f"column {column} is {self._kinds[column]}, not {self._suite.columns[column]}"
        if isinstance(rule, SomeColumns) and not self._numeric(rule):
            return "the table has no numeric column"
        return ""

    def _column(self, name: str) -> str:
        if name not in self.rows:
            self.rows[name] = plain(self._frame[name])
        return name

    def _derived(self, rule: BaseRule, values: pd.Series) -> str:
        self.rows[_derived_name(rule)] = values
        return _derived_name(rule)

    def _numeric(self, rule: SomeColumns) -> list[str]:
        named = rule.columns or tuple(self._frame.columns)
        return [name for name in named if is_numeric(self._frame[name])]

    def _exact_range(self, rule: Range) -> Question:
        """GX makes a double of a bound, which is another number than a long id."""
        values = self.rows[rule.column]
        broken = np.zeros(len(values), dtype=bool)
        if rule.min is not None:
            broken |= (values < rule.min).to_numpy(dtype=bool, na_value=False)
        if rule.max is not None:
            broken |= (values > rule.max).to_numpy(dtype=bool, na_value=False)
        return Question(rule, "rows", self._derived(rule, pd.Series(broken, dtype=float).mask(values.isna())))

    def _finite(self, rule: Finite) -> Question:
        broken = np.zeros(len(self._frame), dtype=np.int64)
        found: dict[str, float | str] = {}
        for name in self._numeric(rule):
            bad = ~np.isfinite(as_floats(self._frame[name]))
            if bad.any():
                found[name] = int(bad.sum())
                broken += bad
        return Question(rule, "rows", self._derived(rule, pd.Series(broken)), found=found)

    def _varied(self, rule: Varied) -> Question:
        shares = {name: dominant_share(as_floats(self._frame[name])) for name in self._numeric(rule)}
        self.figures[rule.title] = max(shares.values())
        top = {name: share for name, share in shares.items() if share > rule.max_share} or {
            name: share for name, share in shares.items() if share == self.figures[rule.title]
        }
        return Question(rule, "figures", rule.title, found=top)

    def _figure_of(self, rule: Statistic) -> str:
        if not rule.where and not isinstance(rule, ShareOf):
            return self._column(rule.column)
        values = self._frame[rule.column].reset_index(drop=True)
        kept = values.notna().to_numpy()
        for column, value in rule.where.items():
            kept &= (self._frame[column] == value).to_numpy(dtype=bool, na_value=False)
        if isinstance(rule, ShareOf):
            values = pd.Series((values == rule.value).to_numpy(dtype=np.float64, na_value=np.nan))
        return self._derived(rule, plain(values).where(kept))


def dominant_share(values: NDArray[np.floating]) -> float:
    """The share of the most frequent value when that is over a half, else a lower bound of it. NaN counts as a value.

    A value in over half of the rows is also their median, which takes one pass instead of a sort.
    """
    middle = np.partition(values, len(values) // 2)[len(values) // 2]
    return float(max(np.mean(values == middle), np.mean(np.isnan(values))))
