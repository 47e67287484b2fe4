"""Which KPIs close when: the card's KPIs, grouped by the window in which outcomes count.

Invariant: a KPI is in exactly one group; a group closes for an exposure once, `seconds` after its event time.
"""

from __future__ import annotations

from dataclasses import dataclass

from serinus.core.card import Kind, Kpi, Problem

# A KPI that is a ratio of two sums has a column for each: what is divided, and by what.
_RATIOS = {"calibration": ("_predicted", "_observed"), "ctr": ("_clicks", "_shown")}


def columns_of(kpi: Kpi) -> tuple[str, ...]:
    """The columns of KPI rows that a KPI fills: its own, or the two sums whose ratio it is."""
    return tuple(kpi.name + part for part in _RATIOS.get(kpi.formula, ("",)))


@dataclass(frozen=True)
class Group:
    """KPIs that close together."""

    seconds: float
    kpis: tuple[Kpi, ...]

    def needs_scores(self) -> bool:
        """Whether a KPI of the group is made of the items shown and the label's outcomes."""
        return any(not kpi.known_at_once and kpi.formula != "return_within" for kpi in self.kpis)

    def columns(self) -> tuple[str, ...]:
        """The columns of KPI rows that this group fills."""
        return tuple(name for kpi in self.kpis for name in columns_of(kpi))


@dataclass(frozen=True)
class KpiPlan:
    """What a reduction needs of a card. `by_unit`: outcomes without a request id belong to the unit's requests."""

    ranking: bool
    label: str
    by_unit: bool
    groups: tuple[Group, ...]

    @classmethod
    def of(cls, card: Problem) -> KpiPlan:
        """Groups by rising window."""
        label = card.framing.label
        windows: dict[float, list[Kpi]] = {}
        for kpi in card.requirements.kpis:
            window = 0.0 if kpi.known_at_once else (kpi.window or label.maturity).total_seconds()
            windows.setdefault(window, []).append(kpi)
        groups = tuple(Group(seconds, tuple(windows[seconds])) for seconds in sorted(windows))
        return cls(card.framing.kind is Kind.RANKING, label.name, label.attribution == "unit", groups)

    @property
    def longest(self) -> float:
        """Seconds after which nothing of an exposure is open."""
        return self.groups[-1].seconds

    def columns(self) -> tuple[str, ...]:
        """All KPI columns, in order."""
        return tuple(name for group in self.groups for name in group.columns())
