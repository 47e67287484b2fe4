"""A step that dies outside its frame leaves no record: the report, the summary and MLflow say that the run failed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow import MlflowClient

from serinus.core.run import StepRecord
from serinus.registry.tracker import MlflowTracker
from serinus.wiring.journal import Journal
from serinus.wiring.steps.release import report

DONE = ("prepare", "contract_raw", "features", "training_set", "contract_training", "train_linear", "train_gbdt")
LOST = "the run ended after train_gbdt; evaluate left no record"


def test_a_run_whose_last_step_left_no_record_has_failed(
    renewal_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("SERINUS_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    run_id = MlflowTracker(uri).open_run("renewal", "job-1", {})
    journal = Journal(renewal_project / ".serinus", "renewal", "job-1")
    for second, name in enumerate(DONE):
        began = datetime(2026, 11, 27, 10, 0, second, tzinfo=UTC)
        journal.write(StepRecord(name=name, status="ok", started_at=began, seconds=1))
    report("renewal", "job-1", tmp_path / "html", tmp_path / "summary")
    failure = json.loads((tmp_path / "summary").read_text())["failure"]
    assert failure["headline"] == LOST
    assert "memory" in failure["cause"]
    for page in (tmp_path / "html", journal.folder / "report.html"):
        text = page.read_text()
        assert LOST in text
        assert "The run failed in step evaluate" in text
    closed = MlflowClient(uri).get_run(run_id)
    assert closed.info.status == "FAILED"
    assert closed.data.tags["serinus.failure"] == LOST
    assert "evaluate" not in {step.name for step in journal.read().steps}, "what is not known is not recorded"
