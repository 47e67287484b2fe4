"""The training pipeline of a problem: from its raw log to a version that is wanted in service.

Invariant: the graph follows from the card alone (a sibling a candidate); the report is made also when a step failed; no
step starts before the verdict on what it reads.
"""

from collections.abc import Callable, Sequence

from kfp import dsl

from components import data, models, release
from pipelines.settings import LARGE, SMALL, on_cluster
from serinus.core.card import Problem

Pipeline = Callable[..., object]
REGISTER = "chosen"


def training_pipeline(card: Problem) -> Pipeline:
    """The pipeline of a card; its parameter `register` names candidates, or `chosen`, separated by commas."""
    kinds = tuple(candidate.kind for candidate in card.data.candidates)
    job = dsl.PIPELINE_JOB_ID_PLACEHOLDER

    @dsl.pipeline(name=f"{card.name.replace('_', '-')}-training", description=card.title)
    def pipeline(problem: str = card.name, register: str = REGISTER) -> None:
        last = on_cluster(release.report(problem=problem, job=job), SMALL).set_caching_options(False)
        with dsl.ExitHandler(last, name="train-and-register"):
            _body(problem, register, job, kinds)

    return pipeline


def _body(problem: str, register: str, job: str, kinds: Sequence[str]) -> None:
    both = {"problem": problem, "job": job}
    raw = on_cluster(data.prepare(**both), SMALL)
    checked = on_cluster(data.check_raw(**both, raw=raw.outputs["raw"]), LARGE)
    tables = on_cluster(data.build_features(**both, accepted=checked.outputs["accepted"]), LARGE)
    training = on_cluster(data.build_training_set(**both, tables=tables.outputs["tables"]), LARGE)
    rows = training.outputs["training_set"]
    verdict = on_cluster(data.check_training_set(**both, training_set=rows), LARGE)
    trained = {kind: _train(both, kind, rows, verdict.outputs["verdict"]) for kind in kinds}
    judged = on_cluster(models.evaluate(**both, training_set=rows, **trained), LARGE)
    found = judged.outputs["evaluation"]
    gated = on_cluster(models.gates(**both, register=register, evaluation=found, **trained), SMALL)
    registered = on_cluster(
        release.register(**both, register=register, evaluation=found, verdict=gated.outputs["verdict"], **trained),
        SMALL,
    )
    loaded = on_cluster(release.materialize(**both, version=registered.output), LARGE)
    on_cluster(release.deploy(**both, version=loaded.output), SMALL)


def _train(both: dict[str, str], kind: str, rows: dsl.Dataset, verdict: dsl.Artifact) -> dsl.Model:
    task = models.train(**both, kind=kind, training_set=rows, verdict=verdict)
    return on_cluster(task.set_display_name(f"train-{kind}"), LARGE).outputs["model"]
