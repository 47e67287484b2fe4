"""The compiled pipelines: fresh, and free of what a real backend trips over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from components.image import IMAGE
from pipelines.compile import FOLDER, main, package_name
from pipelines.settings import HOME, HOME_CLAIM

PACKAGE = FOLDER / package_name("retail")


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(PACKAGE.read_text()))


def test_the_compiled_packages_are_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERINUS_PROJECT", raising=False)
    monkeypatch.chdir(Path(__file__).parents[3])
    assert main(["--check"]) == 0


def test_a_stale_package_is_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    monkeypatch.delenv("SERINUS_PROJECT", raising=False)
    monkeypatch.setattr("pipelines.compile.FOLDER", tmp_path)
    (tmp_path / PACKAGE.name).write_text(PACKAGE.read_text() + "# edited\n")
    assert main(["--check"]) == 1
    assert "stale: retail-training.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    "denied",
    [
        "pip install",
        "pip3 install",
        "enableCache: true",
        "/work",
        "/root",
        "/home/",
        "/tmp/serinus",
        "index-url",
        "latest",
    ],
)
def test_deny_list(denied: str) -> None:
    assert denied not in PACKAGE.read_text()


def test_every_task_runs_in_the_one_image(documents: list[dict[str, Any]]) -> None:
    images = {one["container"]["image"] for one in documents[0]["deploymentSpec"]["executors"].values()}
    assert images == {IMAGE}


def test_every_task_has_its_cluster_settings(documents: list[dict[str, Any]]) -> None:
    executors = documents[0]["deploymentSpec"]["executors"]
    settings = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(settings) == set(executors)
    for name, one in settings.items():
        assert [(mount["constant"], mount["mountPath"]) for mount in one["pvcMount"]] == [(HOME_CLAIM, HOME)], name
        assert one["securityContext"]["runAsNonRoot"] is True
        assert {"resourceMemoryLimit", "resourceCpuLimit"} <= set(executors[name]["container"]["resources"])


def test_no_task_asks_a_node_for_more_than_half_a_cpu(documents: list[dict[str, Any]]) -> None:
    """Two never fit a node of two beside any other pod; what a task may use is another figure."""
    for name, one in documents[0]["deploymentSpec"]["executors"].items():
        assert one["container"]["resources"]["resourceCpuRequest"] == "500m", name
    limits = {
        one["container"]["resources"]["resourceCpuLimit"]
        for one in documents[0]["deploymentSpec"]["executors"].values()
    }
    assert limits == {"500m", "2"}


def test_the_image_is_the_one_that_the_documents_build_and_the_chart_names() -> None:
    values = yaml.safe_load((FOLDER.parents[1] / "helm/serinus/values.yaml").read_text())
    assert values["images"]["pipeline"] == "serinus/pipeline:dev"
    assert "image: serinus/pipeline:dev" in PACKAGE.read_text()


def test_the_report_is_an_exit_task(documents: list[dict[str, Any]]) -> None:
    report = documents[0]["root"]["dag"]["tasks"]["report"]
    assert report["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"


def test_candidates_are_siblings_and_no_loop_stands_in_the_exit_handler() -> None:
    text = PACKAGE.read_text()
    assert "artifactIterator" not in text
    assert "parameterIterator" not in text
    for task in ("train:", "train-2:", "train-3:"):
        assert task in text
