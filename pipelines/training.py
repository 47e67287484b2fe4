"""The training pipeline of a problem: from its raw log to a version that is wanted in service.

Invariant: the graph follows from the card alone (a sibling a candidate); the report is made also when a step failed; no
step starts before the verdict on what it reads.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from kfp import dsl

from components import data, models, release
from pipelines.settings import LARGE, SMALL, on_cluster
from serinus.core.card import Problem

Pipeline = Callable[..., object]
Settings = Callable[..., dsl.PipelineTask]
REGISTER = "chosen"
NOTHING_KEPT: Mapping[str, str] = MappingProxyType({})


def training_pipeline(card: Problem, *, kept: Mapping[str, str] = NOTHING_KEPT) -> Pipeline:
    """The pipeline of a card; its parameter `register` names candidates, or `chosen`, separated by commas.
    `definition` is what the problem is defined by where the run was asked for; empty when any will do. `service` is
    where the version is wanted: the problem's usual one, or another.

    A step whose result is in the cache under its name in `kept` is not run again: what a local run is taken up by.
    """
    kinds = tuple(candidate.kind for candidate in card.data.candidates)
    large = functools.partial(on_cluster, size=LARGE, kept=kept)
    small = functools.partial(on_cluster, size=SMALL, kept=kept)
    job = dsl.PIPELINE_JOB_ID_PLACEHOLDER

    @dsl.pipeline(  # type: ignore[untyped-decorator]  # kfp has no types
        name=f"{card.name}-training", description=card.title
    )
    def pipeline(
        problem: str = card.name, register: str = REGISTER, definition: str = "", service: str = card.name
    ) -> None:
        last = small(release.report(problem=problem, job=job), "report")
        with dsl.ExitHandler(last, name="train-and-register"):
            both = {"problem": problem, "job": job}
            version = _release(both, register, _models(both, kinds, definition, large), large, small)
            small(release.deploy(**both, version=version, service=service), "deploy")

    made: Pipeline = pipeline
    return made


@dataclass(frozen=True)
class _Trained:
    """What the second half of the graph takes from the first."""

    training_set: dsl.Dataset
    models: dict[str, dsl.Model]


def _models(both: dict[str, str], kinds: Sequence[str], definition: str, large: Settings) -> _Trained:
    """From the raw log to trained candidates, which are siblings."""
    raw = large(data.prepare(**both, definition=definition), "prepare")
    checked = large(data.check_raw(**both, raw=raw.outputs["raw"]), "contract_raw")
    tables = large(data.build_features(**both, accepted=checked.outputs["accepted"]), "features")
    training = large(data.build_training_set(**both, tables=tables.outputs["tables"]), "training_set")
    rows = training.outputs["training_set"]
    verdict = large(data.check_training_set(**both, training_set=rows), "contract_training").outputs["verdict"]
    tasks = {kind: models.train(**both, kind=kind, training_set=rows, verdict=verdict) for kind in kinds}
    trained = {
        kind: large(task.set_display_name(f"train-{kind}"), f"train_{kind}").outputs["model"]
        for kind, task in tasks.items()
    }
    return _Trained(rows, trained)


def _release(both: dict[str, str], register: str, trained: _Trained, large: Settings, small: Settings) -> object:
    """From trained candidates to a registered version whose features are loaded."""
    judged = large(models.evaluate(**both, training_set=trained.training_set, **trained.models), "evaluate")
    found = judged.outputs["evaluation"]
    gated = small(models.gates(**both, register=register, evaluation=found, **trained.models), "gates")
    verdict = gated.outputs["verdict"]
    both_judged = {"register": register, "evaluation": found, "verdict": verdict}
    registered = small(release.register(**both, **both_judged, **trained.models), "register")
    return large(release.materialize(**both, version=registered.output), "materialize").output
