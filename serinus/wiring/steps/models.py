"""Steps from the training set to a judged candidate."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from serinus.core.card import Problem, asked_candidates
from serinus.core.card.problem import CHOSEN
from serinus.core.errors import BundleError, SerinusError, UsageError
from serinus.core.verdict import Check
from serinus.features.inputs import columns_of
from serinus.model.bundle import FeatureSource, Lineage, content_hash, read_bundle, read_manifest
from serinus.training.dataset import TrainingSet
from serinus.training.evaluation import Champion, Contender, evaluate
from serinus.training.gates import Candidacy, judge, require
from serinus.training.results import Evaluation
from serinus.training.train import TrainingJob, train
from serinus.wiring.adapters import bundle_store, registry
from serinus.wiring.made_of import CHAMPION, NO_CHAMPION
from serinus.wiring.project import Project
from serinus.wiring.step import step
from serinus.wiring.steps.data import LINEAGE, read_json, warnings_in, write_json

EVALUATION, TRAINED = "evaluation.json", "trained.json"


def train_candidate(problem: str, job: str, kind: str, training_set: Path, verdict: Path, model: Path) -> None:
    """Fits and packs the card's candidate of a kind into `model/bundle`; refuses rows that were never judged."""
    with step(f"train_{kind}", problem, job, {"training_set": training_set, "verdict": verdict}) as context:
        card = context.problem.card
        candidate = next((one for one in card.data.candidates if one.kind == kind), None)
        if candidate is None:
            raise UsageError(
                f"the card of {problem} has no candidate of kind {kind}", hint="compile the pipeline again"
            )
        data, origin = TrainingSet(training_set), read_json(training_set / LINEAGE)
        data_warnings = origin["data_warnings"] + warnings_in(verdict)
        source = FeatureSource(
            service=card.data.feature_service,
            service_hash=origin["service_hash"],
            columns=columns_of(data.inputs()),
            definitions=origin["service_definitions"],
        )
        lineage = Lineage(
            pipeline_run=context.run,
            mlflow_run=origin["mlflow_run"],
            snapshot_hash=origin["snapshot_hash"],
            training_set_hash=origin["training_set_hash"],
        )
        trained = train(TrainingJob(card, candidate, data, source, lineage), model / "bundle")
        facts = {
            "candidate": candidate.name,
            "kind": kind,
            "fit_seconds": trained.fit_seconds,
            "bundle_hash": trained.bundle_hash,
            "size_bytes": trained.size_bytes,
            "data_warnings": data_warnings,
        }
        write_json(model / TRAINED, facts)
        context.facts.update(facts)


def evaluate_candidates(
    problem: str, job: str, training_set: Path, models: Mapping[str, Path], evaluation: Path
) -> None:
    """Judges every candidate, the baselines and the champion on the test window; writes one evaluation."""
    with step("evaluate", problem, job, {"training_set": training_set, **models}) as context:
        contenders = [_contender(folder) for folder in models.values()]
        champion = _champion(context.project, problem)
        context.made_of[CHAMPION] = str(champion.version) if champion else NO_CHAMPION
        found = evaluate(context.problem.card, TrainingSet(training_set), contenders, champion)
        evaluation.mkdir(parents=True, exist_ok=True)
        (evaluation / EVALUATION).write_text(found.model_dump_json(indent=1), encoding="utf-8")
        write_json(evaluation / LINEAGE, read_json(training_set / LINEAGE))
        context.facts["evaluation"] = found.model_dump(mode="json")


def judge_candidates(
    problem: str, job: str, wanted: str, models: Mapping[str, Path], evaluation: Path, verdict: Path
) -> None:
    """Sends each candidate that is to be registered through the gates of the card."""
    with step("gates", problem, job, {**models, "evaluation": evaluation}, {"register": wanted}) as context:
        found = read_evaluation(evaluation)
        by_name = {read_manifest(folder / "bundle").candidate: folder / "bundle" for folder in models.values()}
        checks: dict[str, list[Check]] = {}
        for name in wanted_candidates(wanted, context.problem.card, found):
            candidacy = Candidacy(name, found, partial(_fresh_parity, by_name[name]))
            checks[name] = list(judge(context.problem.card, candidacy))
        dumped = {name: [check.model_dump(mode="json") for check in found] for name, found in checks.items()}
        verdict.mkdir(parents=True, exist_ok=True)
        write_json(verdict / "gates.json", dumped)
        context.facts.update(by_candidate=dumped, chosen=found.chosen)
        for name, results in checks.items():
            require(results, name)


def wanted_candidates(wanted: str, card: Problem, evaluation: Evaluation) -> list[str]:
    """The candidates of `--register linear,chosen`, in that order, each once, with `chosen` resolved."""
    asked = asked_candidates(wanted, card)
    return list(dict.fromkeys(evaluation.chosen if name == CHOSEN else name for name in asked))


def read_evaluation(folder: Path) -> Evaluation:
    """The evaluation of an `evaluation` artifact."""
    return Evaluation.model_validate_json((folder / EVALUATION).read_bytes())


def _contender(folder: Path) -> Contender:
    trained = read_json(folder / TRAINED)
    bundle = folder / "bundle"
    return Contender(read_bundle(bundle), content_hash(bundle), trained["fit_seconds"], trained["size_bytes"])


def _champion(project: Project, problem: str) -> Champion | None:
    version = registry(project).aliased(problem, "champion")
    if version is None:
        return None
    try:
        bundle = read_bundle(bundle_store(project).get(version.storage_uri))
    except SerinusError as fault:
        return Champion(version.version, None, fault.headline)
    return Champion(version.version, bundle)


def _fresh_parity(folder: Path) -> float:
    """Loads the bundle in a process of its own: nothing cached here can hide a file that does not load."""
    command = [sys.executable, "-m", "serinus.model.check", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise BundleError("the bundle does not load in a fresh process", cause=done.stderr.strip().splitlines()[-1])
    return float(done.stdout)
