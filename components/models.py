"""Components from the training set to a judged candidate."""

from kfp import dsl

from components.image import component


@component
def train(
    problem: str,
    job: str,
    kind: str,
    training_set: dsl.Input[dsl.Dataset],
    verdict: dsl.Input[dsl.Artifact],
    model: dsl.Output[dsl.Model],
) -> None:
    """Trains the card's candidate of one kind; the verdict is an input so that no model is fitted before it."""
    from pathlib import Path

    from serinus.wiring.steps.models import train_candidate as run

    run(problem, job, kind, Path(training_set.path), Path(verdict.path), Path(model.path))


@component
def evaluate(
    problem: str,
    job: str,
    training_set: dsl.Input[dsl.Dataset],
    evaluation: dsl.Output[dsl.Artifact],
    linear: dsl.Input[dsl.Model] = None,
    gbdt: dsl.Input[dsl.Model] = None,
    neural: dsl.Input[dsl.Model] = None,
) -> None:
    """Judges all candidates on the test window."""
    from pathlib import Path

    from serinus.wiring.steps.models import evaluate_candidates as run

    models = {"linear": linear, "gbdt": gbdt, "neural": neural}
    folders = {kind: Path(model.path) for kind, model in models.items() if model is not None}
    run(problem, job, Path(training_set.path), folders, Path(evaluation.path))


@component
def gates(
    problem: str,
    job: str,
    register: str,
    evaluation: dsl.Input[dsl.Artifact],
    verdict: dsl.Output[dsl.Artifact],
    linear: dsl.Input[dsl.Model] = None,
    gbdt: dsl.Input[dsl.Model] = None,
    neural: dsl.Input[dsl.Model] = None,
) -> None:
    """Sends the candidates to be registered through the gates."""
    from pathlib import Path

    from serinus.wiring.steps.models import judge_candidates as run

    models = {"linear": linear, "gbdt": gbdt, "neural": neural}
    folders = {kind: Path(model.path) for kind, model in models.items() if model is not None}
    run(problem, job, register, folders, Path(evaluation.path), Path(verdict.path))
