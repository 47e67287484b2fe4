"""Which KPIs close when: the card's KPIs, grouped by the window in which outcomes count.

Invariant: a KPI is in exactly one group; a group closes for an exposure once, `seconds` after its event time.
"""

from __future__ import annotations

from dataclasses import dataclass

from serinus.core.card import Kind, Kpi, Problem


@dataclass(frozen=True)
class Group:
    """KPIs that close together."""

    seconds: float
    kpis: tuple[Kpi, ...]

    def needs_scores(self) -> bool:
        """Whether a KPI of the group is made of the items shown."""
        return any(kpi.formula.needs_scores for kpi in self.kpis)

    def columns(self) -> tuple[str, ...]:
        """The columns of KPI rows that this group fills."""
        return tuple(name for kpi in self.kpis for name in kpi.columns)


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
            window = 0.0 if kpi.formula.known_at_once else (kpi.window or label.maturity).total_seconds()
            windows.setdefault(window, []).append(kpi)
        groups = tuple(Group(seconds, tuple(windows[seconds])) for seconds in sorted(windows))
        return cls(card.framing.kind is Kind.RANKING, label.name, label.attribution == "unit", groups)

    @property
    def reach(self) -> dict[str, float]:
        """By name, how many seconds an outcome that names its request counts for some KPI."""
        found = {self.label: 0.0}
        for group in self.groups:
            for kpi in group.kpis:
                if kpi.formula.needs_scores or kpi.formula.needs_outcomes == "all":
                    name = kpi.outcome or self.label
                    found[name] = max(found.get(name, 0.0), group.seconds)
        return found

    @property
    def longest(self) -> float:
        """Seconds after which nothing of an exposure is open."""
        return self.groups[-1].seconds

    def columns(self) -> tuple[str, ...]:
        """All KPI columns, in order."""
        return tuple(name for group in self.groups for name in group.columns())
