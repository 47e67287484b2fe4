"""The cluster on kind is made of what the test bed is made of: the same versions, the same class of gateways."""

from __future__ import annotations

import re
from dataclasses import astuple
from pathlib import Path

import pytest
import yaml

from tests.cluster.capabilities import GATEWAY_CLASS
from tests.cluster.how_to import MARK, blocks
from tests.cluster.manifests import OPERATOR, OVERLAY, PIPELINE, PREDICTOR, ROOT

CLUSTER = Path(__file__).parents[3] / "tests" / "cluster"
SCRIPT = (CLUSTER / "kind" / "up.sh").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "folder", "module"),
    [
        ("GATEWAY_API", "envoy-gateway", "sigs.k8s.io/gateway-api"),
        ("ENVOY_GATEWAY", "envoy-gateway", "github.com/envoyproxy/gateway"),
        ("KSERVE", "kserve", "github.com/kserve/kserve"),
    ],
)
def test_versions_are_those_of_the_bed(name: str, folder: str, module: str) -> None:
    pins = (CLUSTER / "bed" / "modules" / folder / "go.mod").read_text(encoding="utf-8")
    pinned = re.search(rf"^\s*(?:require )?{re.escape(module)} (v[\d.]+)\b", pins, re.MULTILINE)
    assert pinned, f"the bed pins no {module}"
    assert f"\n{name}={pinned[1]}\n" in SCRIPT


def test_the_gateway_class_is_the_one_that_manifests_ask_for() -> None:
    documents = list(yaml.safe_load_all((CLUSTER / "kind" / "gateway.yaml").read_text(encoding="utf-8")))
    assert [one["metadata"]["name"] for one in documents if one["kind"] == "GatewayClass"] == [GATEWAY_CLASS]


def test_the_port_of_the_gateway_is_one_that_the_node_maps() -> None:
    cluster = yaml.safe_load((CLUSTER / "kind" / "cluster.yaml").read_text(encoding="utf-8"))
    (mapped,) = cluster["nodes"][0]["extraPortMappings"]
    assert mapped["listenAddress"] == "127.0.0.1"
    proxy = yaml.safe_load((ROOT / OVERLAY / "gateway.yaml").read_text(encoding="utf-8"))
    service = proxy["spec"]["provider"]["kubernetes"]["envoyService"]
    assert service["patch"]["value"]["spec"]["ports"] == [{"port": 80, "nodePort": mapped["containerPort"]}]
    assert f"localhost:{mapped['hostPort']}" in SCRIPT
    assert f"}}'):{mapped['containerPort']}\n" in blocks().ask


def test_all_images_of_the_manifests_are_loaded() -> None:
    (targets,) = re.findall(r"for target in ([a-z ]+);", SCRIPT)
    assert {f"serinus/{one}:dev" for one in targets.split()} == {PREDICTOR, OPERATOR, PIPELINE}


def test_the_workflow_runs_the_commands_that_the_bed_runs() -> None:
    """Those of the how-to, one after the other: tests/cluster/ has them run there as they stand."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/kind.yaml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    _, up, *steps, dump = job["steps"]
    assert up["run"] == "tests/cluster/kind/up.sh"
    wanted = [one.replace(f"{MARK}\n", "").strip() for one in astuple(blocks())]
    assert [one["run"].strip() for one in steps] == wanted
    assert dump["if"] == "failure()"
