"""What one pipeline run leaves behind: a record a step, from which report, summary and progress are made.

Invariant: a record is written once its step ended, failed or not; a run without some records is still readable.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serinus.core.verdict import Check

STEPS = (
    "prepare",
    "contract_raw",
    "features",
    "training_set",
    "contract_training",
    "train",
    "evaluate",
    "gates",
    "register",
    "materialize",
    "deploy",
    "report",
    "lookup",
    "serve",
    "replay",
    "trace",
    "rollouts",
)


class StepError(BaseModel):
    """The fault of a failed step, as `SerinusError.as_dict` gives it."""

    model_config = ConfigDict(frozen=True)

    error: str
    headline: str
    cause: str = ""
    hint: str = ""
    exit_code: int = 1


class StepRecord(BaseModel):
    """One step. `facts` are JSON values; their keys for each step: docs/reference/run-record.md.

    `made_of` is all that its result depends on, by name, each as a value or a hash; `reads` where its inputs were.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    status: Literal["ok", "failed"]
    started_at: datetime
    seconds: float
    import_seconds: float = 0.0
    peak_mb: float = 0.0
    made_of: dict[str, str] = Field(default_factory=dict)
    reads: dict[str, str] = Field(default_factory=dict)
    facts: dict[str, Any] = Field(default_factory=dict)
    error: StepError | None = None


class RunRecord(BaseModel):
    """All that is known of a run; `ids` is the chain pipeline run → MLflow run → snapshot → bundle → version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    problem: str
    pipeline_run: str
    steps: tuple[StepRecord, ...]
    ids: dict[str, str] = Field(default_factory=dict)

    def facts(self, step: str) -> dict[str, Any]:
        """Facts of a step, empty when it did not run."""
        return next((record.facts for record in self.steps if record.name == step), {})

    def gates(self) -> dict[str, list[Check]]:
        """What each candidate that was to be registered showed at the gates."""
        found = self.facts("gates").get("by_candidate", {})
        return {name: [Check.model_validate(one) for one in checks] for name, checks in found.items()}

    def failure(self) -> StepRecord | None:
        """The first failed step, or None."""
        return next((record for record in self.steps if record.status == "failed"), None)

    def step(self, name: str) -> StepRecord | None:
        """The record of a step, or None."""
        return next((record for record in self.steps if record.name == name), None)


_SHORT = 40


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs between two `made_of`, a line each: `card framing.label.maturity: 1d, now 2d`."""
    found = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if old is None or new is None:
            found.append(f"{name} {'is new' if old is None else 'is gone'}")
        elif max(len(old), len(new)) <= _SHORT:
            found.append(f"{name}: {old}, now {new}")
        else:
            found.append(f"{name} changed")
    return found
