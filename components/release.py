"""Components from a judged candidate to a wanted version, and the report."""

from kfp import dsl

from components.image import component


@component
def register(
    problem: str,
    job: str,
    register: str,
    evaluation: dsl.Input[dsl.Artifact],
    verdict: dsl.Input[dsl.Artifact],
    linear: dsl.Input[dsl.Model] = None,
    gbdt: dsl.Input[dsl.Model] = None,
    neural: dsl.Input[dsl.Model] = None,
) -> int:
    """Stores and registers the wanted candidates; gives the version of the last."""
    from pathlib import Path

    from serinus.wiring.steps.release import register as run

    models = {"linear": linear, "gbdt": gbdt, "neural": neural}
    folders = {kind: Path(model.path) for kind, model in models.items() if model is not None}
    return run(problem, job, register, folders, Path(evaluation.path), Path(verdict.path))


@component
def materialize(problem: str, job: str, version: int) -> int:
    """Loads the online store; gives the version on."""
    from serinus.wiring.steps.release import materialize as run

    run(problem, job, version)
    return version


@component
def deploy(problem: str, job: str, version: int, service: str) -> None:
    """Says that the version is wanted in a service."""
    from serinus.wiring.steps.release import deploy as run

    run(problem, job, version, service)


@component
def report(problem: str, job: str, html: dsl.Output[dsl.HTML], summary: dsl.Output[dsl.Artifact]) -> None:
    """Builds the run's report, whatever happened before."""
    from pathlib import Path

    from serinus.wiring.steps.release import report as run

    run(problem, job, Path(html.path), Path(summary.path))
