"""Components from the raw log to a checked training set."""

from kfp import dsl

from components.image import component


@component
def prepare(problem: str, job: str, raw: dsl.Output[dsl.Dataset], definition: str = "") -> None:
    """Reads the raw log and opens the run; refuses a definition that the image does not hold."""
    from pathlib import Path

    from serinus.wiring.steps.data import prepare as run

    run(problem, job, Path(raw.path), definition)


@component
def check_raw(
    problem: str,
    job: str,
    raw: dsl.Input[dsl.Dataset],
    accepted: dsl.Output[dsl.Dataset],
    verdict: dsl.Output[dsl.Artifact],
) -> None:
    """Judges the raw rows by the contract."""
    from pathlib import Path

    from serinus.wiring.steps.data import check_raw as run

    run(problem, job, Path(raw.path), Path(accepted.path), Path(verdict.path))


@component
def build_features(problem: str, job: str, accepted: dsl.Input[dsl.Dataset], tables: dsl.Output[dsl.Dataset]) -> None:
    """Cleans the rows and builds the feature sources."""
    from pathlib import Path

    from serinus.wiring.steps.data import build_features as run

    run(problem, job, Path(accepted.path), Path(tables.path))


@component
def build_training_set(
    problem: str, job: str, tables: dsl.Input[dsl.Dataset], training_set: dsl.Output[dsl.Dataset]
) -> None:
    """Joins features as of each request and writes the splits."""
    from pathlib import Path

    from serinus.wiring.steps.data import build_training_set as run

    run(problem, job, Path(tables.path), Path(training_set.path))


@component
def check_training_set(
    problem: str, job: str, training_set: dsl.Input[dsl.Dataset], verdict: dsl.Output[dsl.Artifact]
) -> None:
    """Judges the rows that models will see."""
    from pathlib import Path

    from serinus.wiring.steps.data import check_training_set as run

    run(problem, job, Path(training_set.path), Path(verdict.path))
