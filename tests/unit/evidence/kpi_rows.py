"""Made KPI rows of one rollout, the reductions that close them in any batches, and what pandas makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from serinus.client import bucket_of
from serinus.core.assignment import PER_PERCENT, places
from serinus.core.card.operation import Rollout, Step
from serinus.core.events import exposure_id
from serinus.core.kpi import Kpi
from serinus.core.names import ServiceRef
from serinus.core.rollout.spec import RolloutSpec
from serinus.core.rollout.state import RolloutState, StepRecord
from serinus.core.words import Arm, Phase, Stage, StepKind
from serinus.evidence.joins import kpi_schema
from serinus.evidence.kpi_files import GENERATION
from serinus.evidence.plan import Group, KpiPlan
from serinus.evidence.source import KpiEvidence
from tests.revisions import revision

DAY = 86_400.0
BEGIN = 1_317_600_000.0  # 2011-10-03
SALT, SEED = "ab", 7
OLD, NEW = "toy-v1-aaaaaa", "toy-v2-bbbbbb"
LATER = BEGIN + 1_000 * DAY


def _kpi(name: str, formula: str, role: str, **more: Any) -> Kpi:
    better = "lower" if formula in ("log_loss", "calibration", "error_rate") else "higher"
    return Kpi.model_validate(
        {"name": name, "formula": formula, "role": role, "direction": better, "per": "request", "look_every": 20} | more
    )


HITS = _kpi("hits", "hits_at_k", "goal", k=10, non_inferiority_margin=0.5, covariate="profile:visits")
LOSS = _kpi("loss", "log_loss", "guardrail", look_every=15)
LEVEL = _kpi("level", "calibration", "report")
ONCE = _kpi("once", "any_hit_at_k", "guardrail", k=5, per="unit", look_every=7)
ERRORS = _kpi("errors", "error_rate", "guardrail", harm_margin=0.5, look_every=10)
CLICKS = _kpi("clicks", "ctr", "report", k=10, covariate="profile:visits")
KPIS = (HITS, LOSS, LEVEL, ONCE, ERRORS, CLICKS)
PLAN = KpiPlan(
    True, "bought", by_unit=False, groups=(Group(0.0, (ERRORS,)), Group(DAY, (HITS, LOSS, LEVEL, ONCE, CLICKS)))
)
COVARIATES = ("profile:age", "profile:visits")
# A shadow step of half of the buckets, then weights; each four hours.
STEPS = ({"shadow": 0.5}, {"weight": 25}, {"weight": 50})
HOURS = 4 * 3600.0


def spec_of(kpis: Sequence[Kpi] = KPIS, **policy: Any) -> RolloutSpec:
    """A rollout of these steps, whose outcomes do not depend on what was shown."""
    values = {"steps": [Step.model_validate(one) for one in STEPS], "max_duration": timedelta(days=60)} | policy
    return RolloutSpec(
        name=NEW,
        service=ServiceRef.parse("toy"),
        stable=revision(OLD, 1),
        candidate=revision(NEW, 2),
        seed=SEED,
        policy=Rollout.model_validate(values),
        kpis=tuple(kpis),
        independent_outcomes=True,
        created_at=BEGIN,
    )


def state_at(step: int, begins: Sequence[float] = (BEGIN, BEGIN + HOURS, BEGIN + 2 * HOURS)) -> RolloutState:
    """In a step, each having been entered when it begins."""
    records = []
    for number in range(step + 1):
        one = STEPS[number]
        kind = StepKind.SHADOW if "shadow" in one else StepKind.WEIGHT
        left = begins[number + 1] if number < step else None
        weight, share = int(one.get("weight", 0)), float(one.get("shadow", 0.0))
        times = {"entered_at": begins[number], "in_force_at": begins[number], "left_at": left}
        records.append(StepRecord(kind=kind, weight=weight, share=share, **times))
    return RolloutState(name=NEW, phase=Phase.STEPPING, step=step, steps=tuple(records), started_at=BEGIN)


def row(request: str, unit: str, revision: str, at: float, **values: Any) -> dict[str, Any]:
    """One answered request, with a KPI value of each column; the bucket is the unit's."""
    made: dict[str, Any] = {
        "id": exposure_id(request, revision), "request_id": request, "revision": revision, "version": "1", "route": "",
        "forced_arm": "", "entity": unit, "unit": unit, "bucket": bucket_of(SALT, unit),
        "bucket_check": "ok", "at": at, "as_of": at,
        "cold_start": False, "latency_ms": 1.0, "error": "", "covariates": [0.0, 0.0], "hits": 0.0, "loss": 0.1,
        "level_predicted": 1.0, "level_observed": 1.0, "once": 0.0, "errors": 0.0,
        "clicks_clicks": 0.0, "clicks_shown": 10.0,
    }  # fmt: skip
    return made | values


def arm_of(unit: str, weight: int) -> str:
    """The revision that a unit is assigned to."""
    return NEW if places(SEED)[bucket_of(SALT, unit)] < weight * PER_PERCENT else OLD


def mirrored(unit: str, share: float = 0.5) -> bool:
    """Whether a unit's requests are mirrored."""
    return places(SEED)[bucket_of(SALT, unit)] < round(share * 1000)


def visits(
    seed: int, count: int, *, effect: float = 0.0, level: float = 0.0, faults: bool = False
) -> list[dict[str, Any]]:
    """Requests of returning units over all three steps, evenly in time; `faults` adds rows that may not be judged.

    `level` hits come with every request, and the candidate's are `effect` more.
    """
    rng, found = np.random.default_rng(seed), []
    for number in range(count):
        at = BEGIN + 3.0 + 3 * HOURS * (number + 0.5) / count
        step, unit = int((at - BEGIN) // HOURS), f"u{rng.integers(0, max(count // 2, 2))}"
        taste, request = 0.5 + (hash_of(unit) % 7) / 7, f"r{number:05d}"
        common = float(rng.poisson(taste))
        arms = [OLD, NEW] if step == 0 and mirrored(unit) else [arm_of(unit, (0, 25, 50)[step])]
        for arm in arms:
            better = 1 + effect * (arm == NEW)
            hits = better * (level + common + float(rng.poisson(0.5)))
            failed = rng.random() < 0.04
            values = {
                "hits": 0.0 if failed else hits,
                "loss": float("nan") if failed else float(rng.gamma(2.0, 0.1)),
                "level_predicted": 0.0 if failed else float(rng.gamma(3.0, 0.5)),
                "level_observed": common,
                "once": float(rng.random() < 0.4),
                "errors": float(failed),
                "clicks_clicks": 0.0 if failed else hits,
                "clicks_shown": 10.0 - number % 3,
                "error": "BundleError" if failed else "",
                "covariates": [-1.0, taste],
            }
            found.append(row(request, unit, arm, at + 0.01 * (arm == NEW), **values))
        if faults and rng.random() < 0.2:
            check = ["wrong", "missing", "forced"][number % 3]
            found[-1]["bucket_check"] = check
        elif faults and step > 0 and rng.random() < 0.1:
            found[-1]["revision"] = NEW if found[-1]["revision"] == OLD else OLD
    return found


def hash_of(text: str) -> int:
    """Any fixed number of a text."""
    return bucket_of("taste", text)


@dataclass
class Reductions:
    """A reducer's files: what each run at `moments` closed, every window for itself, in the order of the rows."""

    rows: Sequence[dict[str, Any]]
    moments: Sequence[float]

    def closed_after(self, generation: int) -> pa.Table:
        """See `KpiReducer`."""
        return numbered(
            {place + 1: table_of(self._closed(place)) for place in range(generation, len(self.moments))}, table_of([])
        )

    def _closed(self, place: int) -> list[dict[str, Any]]:
        after, now = (self.moments[place - 1] if place else -np.inf), self.moments[place]
        found = []
        for group in PLAN.groups:
            mine = set(group.columns())
            for one in self.rows:
                if after < one["as_of"] + group.seconds <= now:
                    hidden = {name: None for name in PLAN.columns() if name not in mine}
                    found.append(one | hidden | {"window": group.seconds, "closed_at": now})
        return found


def table_of(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """As `KpiReducer` writes them."""
    return pa.Table.from_pylist(list(rows), schema=kpi_schema(PLAN.columns()))


def numbered(tables: Mapping[int, pa.Table], empty: pa.Table) -> pa.Table:
    """Rows of reductions by their numbers, as one table that says them."""
    return pa.concat_tables(
        table.append_column(GENERATION, pa.array([number] * len(table), type=GENERATION.type))
        for number, table in {0: empty, **tables}.items()
    )


def evidence(rows: Sequence[dict[str, Any]], *moments: float, settle: float = 2.0, now: float = LATER) -> KpiEvidence:
    """Of rows that were reduced at these times, once and late by default."""
    reductions = Reductions(rows, moments or (LATER,))
    return KpiEvidence(reductions, PLAN, COVARIATES, settle=settle, now=lambda: now)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Expected:
    """All evidence of one KPI and stage up to a look, by pandas."""

    number: int
    step: int
    step_units: int
    at: float
    cells: dict[tuple[int, Arm], np.ndarray]
    units: dict[tuple[int, Arm], int]
    positive: dict[tuple[int, Arm], int]
    cross: dict[tuple[int, Arm, int, Arm], np.ndarray]
    distinct: int


def expected_looks(judged: pd.DataFrame, kpi: Kpi) -> list[Expected]:
    """Of rows in order of closing with columns unit, step, arm, at, entry, value, base, covariate.

    Counted from all rows up to each look, without any running sum: slow and plain.
    """
    found, seen, units, count = [], dict[int, set[str]](), 0, 0
    entries = list(judged.groupby("entry", sort=False))
    for place, (_, part) in enumerate(entries):
        step = int(part["step"].iloc[-1])
        if step not in seen:
            seen[step], units, count = set(), 0, 0
        units, count = units + len(set(part["unit"]) - seen[step]), count + len(part)
        seen[step] |= set(part["unit"])
        if units < kpi.look_every and count < 10 * kpi.look_every:
            continue
        units, count = 0, 0
        rows = pd.concat([one for _, one in entries[: place + 1]])
        found.append(_expected(rows, len(found) + 1, int(part["step"].iloc[-1])))
    return found


def _expected(rows: pd.DataFrame, number: int, step: int) -> Expected:
    totals = rows.groupby(["unit", "step", "arm"])[["value", "base", "covariate"]].sum()
    cells: dict[Any, Any] = {}
    units: dict[Any, int] = {}
    positive: dict[Any, int] = {}
    cross: dict[Any, Any] = {}
    for (_, at, arm), vector in totals.iterrows():
        key = (at, arm)
        cells[key] = cells.get(key, np.zeros(3)) + vector.to_numpy()
        units[key] = units.get(key, 0) + 1
        positive[key] = positive.get(key, 0) + int(vector["value"] > 0)
    for _, one in totals.groupby(level="unit"):
        for (_, s1, a1), v1 in one.iterrows():
            for (_, s2, a2), v2 in one.iterrows():
                key4 = (s1, a1, s2, a2)
                cross[key4] = cross.get(key4, np.zeros((3, 3))) + np.outer(v1, v2)
    return Expected(
        number,
        step,
        rows.loc[rows["step"] == step, "unit"].nunique(),
        float(rows["at"].max()),
        cells,
        units,
        positive,
        cross,
        rows["unit"].nunique(),
    )


def judged_frame(rows: Sequence[dict[str, Any]], kpi: Kpi, stage: Stage) -> pd.DataFrame:
    """Rows of a stage that may be judged, by the rules of D3 and D9 written out once more, in order of closing."""
    frame = pd.DataFrame(rows)
    frame["step"] = ((frame["at"] - BEGIN) // HOURS).astype(int)
    frame["arm"] = [Arm.CANARY if one == NEW else Arm.STABLE for one in frame["revision"]]
    near = pd.concat([(frame["at"] - BEGIN - k * HOURS).abs() < 2.0 for k in range(3)], axis=1).any(axis=1)
    good = (frame["bucket_check"] == "ok") & ~near & ((frame["step"] == 0) == (stage is Stage.SHADOW))
    if stage is Stage.WEIGHTS:
        right = [
            arm_of(u, (0, 25, 50)[s]) == r
            for u, s, r in zip(*(frame[c] for c in ("unit", "step", "revision")), strict=True)
        ]
        good &= pd.Series(right)
    frame = frame[good].sort_values(["as_of", "id"], kind="stable")
    if stage is Stage.SHADOW:
        both = frame.groupby("request_id")["arm"].nunique()
        frame = frame[frame["request_id"].isin(both[both == 2].index)]
        last = frame.groupby("request_id")["as_of"].transform("max")
        frame = frame.assign(last=last, second=frame["arm"] == Arm.CANARY).sort_values(
            ["last", "request_id", "second"], kind="stable"
        )
        frame["entry"] = frame["request_id"]
    else:
        frame["entry"] = frame["id"]
    if kpi.per == "unit":
        first = frame.groupby("unit")["entry"].transform("first")
        frame = frame[frame["entry"] == first]
    return frame.assign(**_vector(frame, kpi))


def _vector(frame: pd.DataFrame, kpi: Kpi) -> dict[str, Any]:
    covariate = frame["covariates"].str[1] if kpi.covariate else 0.0 * frame["at"]
    if kpi.formula.name == "calibration":
        return {"value": frame["level_predicted"], "base": frame["level_observed"], "covariate": covariate}
    if kpi.formula.name == "ctr":
        value, base = frame[f"{kpi.name}_clicks"] / kpi.k, frame[f"{kpi.name}_shown"] / kpi.k
        return {"value": value, "base": base, "covariate": covariate}
    value, base = frame[kpi.name], 1.0 + 0.0 * frame["at"]
    if kpi.formula.name == "log_loss":
        value, base = value.where(frame["error"] == "", 0.0), base.where(frame["error"] == "", 0.0)
    return {"value": value, "base": base, "covariate": covariate}
