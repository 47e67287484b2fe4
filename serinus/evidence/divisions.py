"""KPI rows divided so that no figure mixes what must not be compared: by revision, arm and role, and by step or day.

Invariant: every row is in exactly one division. A mirrored answer, which no user saw, is never with answers that were;
a revision, and so a faulty one, never with another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serinus.core.rollout.spec import RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.words import Arm, Stage
from serinus.evidence.matching import column, is_in
from serinus.evidence.source import spans

Texts = NDArray[np.str_]
# The arm of an answer that no rollout divided from others.
ALONE = "alone"
_MIRRORED = "mirrored"


class By(StrEnum):
    """What rows are divided by beside revision, arm and role."""

    STEP = "step"
    DAY = "day"


@dataclass(frozen=True)
class Division:
    """`role`: `primary` was seen, `shadow` was mirrored and seen by nobody, `forced` was asked of this arm by a caller.

    `step`: `<rollout> <number>`, or empty outside of rollouts. `day` (UTC) of the event time. Each only if asked for.
    """

    revision: str
    step: str
    day: str
    role: str
    arm: str


def divided(
    table: pa.Table, rollouts: Sequence[tuple[RolloutSpec, RolloutState]], by: Collection[By] = ()
) -> Iterator[tuple[Division, pa.Table]]:
    """The rows of each division, in the order of its fields; no rows are a division that is empty.

    `rollouts` in the order they were made.
    """
    if not len(table):
        yield Division("", "", "", "", ""), table
        return
    arm, step = _routed(table, rollouts)
    forced = pc.not_equal(table["forced_arm"], "").to_numpy(zero_copy_only=False)
    none = np.full(len(table), "")
    keys = pa.table(
        {
            "revision": table["revision"],
            "step": step if By.STEP in by else none,
            "day": _days(table) if By.DAY in by else none,
            "role": np.where(forced, "forced", np.where(arm == _MIRRORED, "shadow", "primary")),
            "arm": np.where(arm == _MIRRORED, Arm.CANARY.value, arm),
            "row": np.arange(len(table)),
        }
    )
    names = [one.name for one in fields(Division)]
    groups = keys.group_by(names).aggregate([("row", "list")]).sort_by([(name, "ascending") for name in names])
    for group in groups.to_pylist():
        yield Division(*(group[name] for name in names)), table.take(pa.array(group["row_list"]))


def _routed(table: pa.Table, rollouts: Sequence[tuple[RolloutSpec, RolloutState]]) -> tuple[Texts, Texts]:
    """Arm (or `_MIRRORED`: a canary's answer in shadow) and step of each row, by the route at the time of its answer.

    A later rollout's first step ends what the one before still had, a hold-back.
    """
    at, arm, step = column(table, "at"), np.full(len(table), ALONE, dtype="U8"), np.full(len(table), "", dtype="U80")
    for spec, state in rollouts:
        stable, canary = (is_in(table["revision"], pa.array([one.name])) for one in (spec.stable, spec.candidate))
        for span in spans(state):
            here = (at >= span.begins) & (at < span.ends)
            arm[here] = ALONE
            arm[here & stable] = Arm.STABLE.value
            arm[here & canary] = _MIRRORED if span.stage is Stage.SHADOW else Arm.CANARY.value
            step[here] = f"{spec.name} {span.step}"
    return arm, step


def _days(table: pa.Table) -> Texts:
    seconds = np.floor(column(table, "as_of")).astype("datetime64[s]")
    return np.asarray(seconds.astype("datetime64[D]").astype(str))
