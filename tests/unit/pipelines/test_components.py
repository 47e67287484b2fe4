"""Components take what the driver of a real backend hands them, which is not what `kfp.local` hands them."""

from __future__ import annotations

import json
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_origin

import pytest
import yaml
from kfp import dsl
from kfp.dsl.executor import Executor
from kfp_driver.recorded import below, executor_inputs

from components import data, models, release
from pipelines.compile import compile_training
from serinus.core.card import Problem

TASKS = executor_inputs()
COMPONENTS = {name: one for module in (data, models, release) for name, one in vars(module).items()}


def _component(task: str) -> Any:
    return COMPONENTS[task.removesuffix("-2").replace("-", "_")]


@pytest.fixture(scope="module")
def spec(renewal_card: Problem, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = compile_training(renewal_card, tmp_path_factory.mktemp("compiled") / "renewal.yaml")
    found: dict[str, Any] = next(yaml.safe_load_all(path.read_text()))
    return found


def test_the_recording_has_the_names_that_components_have(spec: dict[str, Any]) -> None:
    components = spec["components"]
    dags = [spec["root"], *(one for one in components.values() if "dag" in one)]
    inside = {name: task for one in dags for name, task in one["dag"]["tasks"].items()}
    tasks = {name: task for name, task in inside.items() if "dag" not in components[task["componentRef"]["name"]]}
    assert set(TASKS) == set(tasks), "tests/kfp_driver/recorded.py brings names up to date"
    for name, task in TASKS.items():
        declared = components[tasks[name]["componentRef"]["name"]]
        ins, outs = declared.get("inputDefinitions", {}), declared.get("outputDefinitions", {})
        given = tasks[name].get("inputs", {})
        assert set(task["inputs"]["parameterValues"]) == set(given.get("parameters", {})), name
        assert set(task["inputs"].get("artifacts", {})) == set(given.get("artifacts", {})), name
        assert set(ins.get("parameters", {})) >= set(task["inputs"]["parameterValues"]), name
        assert set(task["outputs"].get("artifacts", {})) - {"executor-logs"} == set(outs.get("artifacts", {})), name


@pytest.mark.parametrize("task", sorted(TASKS))
def test_a_component_gets_its_artifacts_from_a_real_driver(task: str, tmp_path: Path) -> None:
    given = below(tmp_path, TASKS[task])
    executor = Executor(given, _component(task))
    for name in given["inputs"].get("artifacts", {}):
        found = executor.get_input_artifact(name)
        assert isinstance(found, dsl.Artifact), name
        assert Path(found.path).is_relative_to(tmp_path)


@pytest.mark.parametrize("name", ["evaluate", "gates", "register"])
def test_a_candidate_that_the_card_does_not_have_is_none(name: str, tmp_path: Path) -> None:
    executor = Executor(below(tmp_path, TASKS[name]), COMPONENTS[name])
    assert executor.get_input_artifact("neural") is None
    assert COMPONENTS[name].component_spec.inputs["neural"].optional


@pytest.mark.parametrize("name", sorted(name for name, one in COMPONENTS.items() if hasattr(one, "python_func")))
def test_no_artifact_is_annotated_as_a_union(name: str) -> None:
    """KFP takes `Optional` from parameters, but calls the annotation of an artifact as it stands."""
    for argument, annotation in COMPONENTS[name].python_func.__annotations__.items():
        assert get_origin(annotation) not in (Union, UnionType), argument


def test_recorded_inputs_are_those_of_a_driver() -> None:
    """A local run's artifacts carry a title, and would hide what these are here to show."""
    text = json.dumps([task["inputs"] for task in TASKS.values()])
    assert '"instanceSchema": ""' in text
    assert "schemaTitle" not in text
