"""`RunTracker` on MLflow: one MLflow run a pipeline run, found again by the pipeline's job id.

Invariant: opening is idempotent, so a retried step writes into the run it opened before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from serinus.core.errors import Conflict
from serinus.core.ports import Dataset
from serinus.registry.connection import JOB_TAG, artifact_root, connect, translated

FAILURE_TAG = "serinus.failure"
_DIGEST = 36


class MlflowTracker:
    """See the module. One experiment a problem."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def open_run(self, problem: str, pipeline_run: str, tags: Mapping[str, str]) -> str:
        """See `RunTracker`. A run that had ended is opened again."""
        known = self.find_run(problem, pipeline_run)
        client = connect(self._uri)
        with translated(f"the run of {pipeline_run}"):
            if known is not None:
                client.update_run(known, status="RUNNING")
                return known
            wanted = {JOB_TAG: pipeline_run, **tags}
            run = client.create_run(self._experiment(problem), tags=wanted, run_name=pipeline_run)
            return str(run.info.run_id)

    def find_run(self, problem: str, pipeline_run: str) -> str | None:
        """See `RunTracker`."""
        client = connect(self._uri)
        with translated(f"the run of {pipeline_run}"):
            experiment = client.get_experiment_by_name(problem)
            if experiment is None:
                return None
            quoted = pipeline_run.replace("'", "")
            found = client.search_runs(
                [experiment.experiment_id], f"tags.`{JOB_TAG}` = '{quoted}'", max_results=1, order_by=["start_time ASC"]
            )
            return str(found[0].info.run_id) if found else None

    def log(self, run_id: str, *, params: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        """See `RunTracker`."""
        from mlflow.entities import Metric, Param

        with translated(f"run {run_id}"):
            connect(self._uri).log_batch(
                run_id,
                metrics=[Metric(name, value, timestamp=0, step=0) for name, value in sorted(metrics.items())],
                params=[Param(name, value) for name, value in sorted(params.items())],
            )

    def log_datasets(self, run_id: str, datasets: Sequence[Dataset]) -> None:
        """See `RunTracker`. MLflow's digest is cut at 36 characters; the whole hash is a tag of the input."""
        from mlflow.entities import Dataset as MlflowDataset
        from mlflow.entities import DatasetInput, InputTag

        inputs = [
            DatasetInput(
                MlflowDataset(
                    one.name,
                    one.content_hash[:_DIGEST],
                    "local",
                    f'{{"uri": "{one.source}"}}',
                    profile=f'{{"num_rows": {one.rows}}}',
                ),
                [InputTag("mlflow.data.context", one.context), InputTag("serinus.content_hash", one.content_hash)],
            )
            for one in datasets
        ]
        with translated(f"run {run_id}"):
            connect(self._uri).log_inputs(run_id, inputs)

    def log_files(self, run_id: str, folder: Path, at: str) -> None:
        """See `RunTracker`."""
        client = connect(self._uri)
        with translated(f"run {run_id}"):
            for path in sorted(folder.iterdir()) if folder.is_dir() else [folder]:
                client.log_artifact(run_id, str(path), at)

    def close_run(self, run_id: str, *, failed: str | None) -> None:
        """See `RunTracker`."""
        client = connect(self._uri)
        with translated(f"run {run_id}"):
            if failed is not None:
                client.set_tag(run_id, FAILURE_TAG, failed[:500])
            client.set_terminated(run_id, "FAILED" if failed is not None else "FINISHED")

    def abandon(self, problem: str, pipeline_run: str, *, reason: str) -> bool:
        """See `RunTracker`."""
        run_id = self.find_run(problem, pipeline_run)
        client = connect(self._uri)
        with translated(f"the run of {pipeline_run}"):
            if run_id is None or client.get_run(run_id).info.status != "RUNNING":
                return False
            client.set_tag(run_id, FAILURE_TAG, reason[:500])
            client.set_terminated(run_id, "KILLED")
        return True

    def _experiment(self, problem: str) -> str:
        client = connect(self._uri)
        experiment = client.get_experiment_by_name(problem)
        if experiment is not None and experiment.lifecycle_stage != "active":
            raise Conflict(
                f"the experiment {problem} was deleted in MLflow",
                cause="its runs, and those of versions that serve, are kept until MLflow's garbage collection",
                hint=f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`, then take the run up",
            )
        if experiment is not None:
            return str(experiment.experiment_id)
        return str(client.create_experiment(problem, artifact_location=artifact_root(self._uri)))
