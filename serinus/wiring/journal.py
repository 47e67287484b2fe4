"""The journal of a run: one JSON file a step under `<home>/runs/<run>/steps`, written when the step ends.

Invariant: a file is whole or absent; reading never needs another system, so report and progress work when the registry
is down.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from serinus.core.run import STEPS, RunRecord, StepRecord
from serinus.files import DISK

_IDS = {
    "mlflow_run": ("prepare", "mlflow_run"),
    "snapshot_hash": ("prepare", "snapshot_hash"),
    "service_hash": ("features", "service_hash"),
    "training_set_hash": ("training_set", "hash"),
    "bundle_hash": ("register", "bundle_hash"),
    "model_version": ("register", "version"),
}


class Journal:
    """Records of one pipeline run."""

    def __init__(self, home: Path, problem: str, run: str) -> None:
        self.problem, self.run = problem, run
        self.folder = home / "runs" / run
        self._steps = self.folder / "steps"

    def begin(self) -> None:
        """Makes the run's folder: the first that a run writes, so what stands in the way is told before the work."""
        DISK.folder(self._steps)

    def write(self, record: StepRecord) -> None:
        """Adds a record, replacing an earlier one of the same step (a retry)."""
        DISK.replace(self._steps / f"{record.name}.json", record.model_dump_json(indent=1))

    def drop(self, step: str) -> None:
        """Forgets a step that is made anew."""
        (self._steps / f"{step}.json").unlink(missing_ok=True)

    def read(self) -> RunRecord:
        """Everything recorded so far, in the order of the steps."""
        steps = tuple(sorted(self._records(), key=_position))
        facts: dict[str, Mapping[str, object]] = {record.name: record.facts for record in steps}
        ids = {"pipeline_run": self.run}
        for name, (step, key) in _IDS.items():
            value = facts.get(step, {}).get(key)
            if value is not None:
                ids[name] = str(value)
        return RunRecord(problem=self.problem, pipeline_run=self.run, steps=steps, ids=ids)

    def _records(self) -> list[StepRecord]:
        found = []
        for path in sorted(self._steps.glob("*.json")):
            try:
                found.append(StepRecord.model_validate_json(path.read_bytes()))
            except ValidationError:
                continue  # written by another release: a report without this step beats no report
        return found


def _position(record: StepRecord) -> tuple[int, float]:
    kind = next((name for name in STEPS if record.name == name or record.name.startswith(f"{name}_")), "report")
    exact = record.name if record.name in STEPS else kind
    return STEPS.index(exact), record.started_at.timestamp()
