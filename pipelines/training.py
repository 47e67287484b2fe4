"""The training pipeline of a problem: from its raw log to a version that is wanted in service.

Invariant: the graph follows from the card alone (a sibling a candidate); the report is made also when a step failed; no
step starts before the verdict on what it reads.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kfp import dsl

from components import data, models, release
from pipelines.settings import LARGE, SMALL, on_cluster
from serinus.core.card import Problem

Pipeline = Callable[..., object]
Settings = Callable[..., dsl.PipelineTask]
REGISTER = "chosen"


def training_pipeline(card: Problem, *, caching: bool = False) -> Pipeline:
    """The pipeline of a card; its parameter `register` names candidates, or `chosen`, separated by commas.

    With `caching` finished steps are not run again in the same cache: what a local run is resumed by.
    """
    kinds = tuple(candidate.kind for candidate in card.data.candidates)
    large = functools.partial(on_cluster, size=LARGE, caching=caching)
    small = functools.partial(on_cluster, size=SMALL, caching=caching)
    job = dsl.PIPELINE_JOB_ID_PLACEHOLDER

    @dsl.pipeline(  # type: ignore[untyped-decorator]  # kfp has no types
        name=f"{card.name.replace('_', '-')}-training", description=card.title
    )
    def pipeline(problem: str = card.name, register: str = REGISTER) -> None:
        last = small(release.report(problem=problem, job=job), caching=False)
        with dsl.ExitHandler(last, name="train-and-register"):
            both = {"problem": problem, "job": job}
            _release(both, register, _models(both, kinds, large), large, small)

    made: Pipeline = pipeline
    return made


@dataclass(frozen=True)
class _Trained:
    """What the second half of the graph takes from the first."""

    training_set: dsl.Dataset
    models: dict[str, dsl.Model]


def _models(both: dict[str, str], kinds: Sequence[str], large: Settings) -> _Trained:
    """From the raw log to trained candidates, which are siblings."""
    raw = large(data.prepare(**both))
    checked = large(data.check_raw(**both, raw=raw.outputs["raw"]))
    tables = large(data.build_features(**both, accepted=checked.outputs["accepted"]))
    training = large(data.build_training_set(**both, tables=tables.outputs["tables"]))
    rows = training.outputs["training_set"]
    verdict = large(data.check_training_set(**both, training_set=rows)).outputs["verdict"]
    tasks = {kind: models.train(**both, kind=kind, training_set=rows, verdict=verdict) for kind in kinds}
    trained = {kind: large(task.set_display_name(f"train-{kind}")).outputs["model"] for kind, task in tasks.items()}
    return _Trained(rows, trained)


def _release(both: dict[str, str], register: str, trained: _Trained, large: Settings, small: Settings) -> None:
    """From trained candidates to a version that is wanted in service."""
    judged = large(models.evaluate(**both, training_set=trained.training_set, **trained.models))
    found = judged.outputs["evaluation"]
    gated = small(models.gates(**both, register=register, evaluation=found, **trained.models))
    verdict = gated.outputs["verdict"]
    registered = small(release.register(**both, register=register, evaluation=found, verdict=verdict, **trained.models))
    loaded = large(release.materialize(**both, version=registered.output))
    small(release.deploy(**both, version=loaded.output))
