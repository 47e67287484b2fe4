"""The chart, by helm itself: a fresh base, the route of a rollout, names that follow content, wrong values refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest

from serinus.core.revision import revision_name
from serinus.rollout.http_route import Parent, http_route
from serinus.wiring.chart import Shares, route_values
from serinus.wiring.settings import CollectSettings, ServeSettings
from tests.cluster.manifests import (
    BASE,
    CHART,
    CONSTANTS,
    GATEWAY,
    HOLD_BACK,
    REVISIONS,
    ROOT,
    SEED,
    Document,
    by_version,
    committed,
    documents,
    rendered,
    revision_names,
    route,
    settings,
)

pytestmark = pytest.mark.cluster
SAMPLES = (ROOT / CONSTANTS, ROOT / REVISIONS)
STABLE = {"revisions.stable": {"version": "1", "bundle": "a" * 64, "replicas": 1}}
BOTH = STABLE | {"revisions.canary": {"version": "2", "bundle": "b" * 64, "replicas": 1}}


def test_the_base_is_what_the_chart_renders() -> None:
    assert committed() == rendered(*SAMPLES), f"stale: make manifests ({BASE})"


def test_the_chart_passes_helms_own_check() -> None:
    named = [word for path in SAMPLES for word in ("--values", str(path))]
    done = subprocess.run(
        ["helm", "lint", "--strict", str(ROOT / CHART), *named], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("weight", "hold_back"), [(0, 1), (1, 1), (20, 1), (50, 0), (51, 1), (80, 5), (99, 1), (100, 0)]
)
def test_the_route_is_that_of_a_rollout(weight: int, hold_back: int) -> None:
    text = rendered(*SAMPLES, BOTH | {"route": route_values(Shares(weight, hold_back), 0, SEED)})
    (found,) = documents(text, "HTTPRoute")
    assert found == http_route(route(revision_names(text), weight, hold_back), Parent(GATEWAY))


def test_the_route_of_one_revision_alone_is_that_of_a_rollout() -> None:
    text = rendered(STABLE | {"route": route_values(Shares(), HOLD_BACK, SEED)})
    (found,) = documents(text, "HTTPRoute")
    assert found == http_route(route(revision_names(text), 0), Parent(GATEWAY))


def test_a_revision_is_named_by_its_bundle_and_by_whatever_else_decides_its_answers() -> None:
    text = rendered(BOTH)
    (runtime,) = documents(text, "ServingRuntime")
    for one in by_version(text).values():
        apart = ("version", "revision", "inputs_share")
        served = {key: value for key, value in settings(one).items() if key not in apart}
        template = json.dumps([runtime["spec"], served], sort_keys=True, separators=(",", ":"))
        version, uri = one["metadata"]["labels"]["serinus.dev/version"], one["spec"]["predictor"]["model"]["storageUri"]
        assert one["metadata"]["name"] == revision_name("retail", version, uri, template)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"revisions.stable.bundle": "c" * 64}, {2}),
        ({"revisions.stable.replicas": 3}, {1, 2}),
        ({"route.weight": 7}, {1, 2}),
        ({"service.salt": "another1"}, set()),
        ({"images.predictor": "serinus/predictor:0.2"}, set()),
        ({"predictor.pauseSeconds": 12}, set()),
        ({"features.existingSecret": "x"}, set()),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
def test_what_serves_differently_has_another_name(change: Mapping[str, Any], kept: set[int]) -> None:
    before, after = by_version(rendered(BOTH)), by_version(rendered(BOTH, change))
    assert {n for n in before if before[n]["metadata"]["name"] == after[n]["metadata"]["name"]} == kept


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (BOTH | {"route.weight": 3}, True),
        ({"images.predictor": "serinus/predictor:0.2"}, True),
        ({"images.pipeline": "serinus/pipeline:0.2"}, False),
        ({"training.register": "chosen"}, False),
    ],
    ids=str,
)
def test_a_job_that_would_differ_is_another_job(change: Mapping[str, Any], same: bool) -> None:
    """A Job cannot be changed: an upgrade that tried would be refused."""
    (before,), (after,) = documents(rendered(), "Job"), documents(rendered(change), "Job")
    assert (before["metadata"]["name"] == after["metadata"]["name"]) is same
    assert (before["spec"] == after["spec"]) is same


def test_two_services_of_one_model_in_one_namespace_have_no_object_in_common() -> None:
    other = {"service.name": "retail-b", "service.problem": "retail"}
    texts = rendered(BOTH), rendered(BOTH, other, release="serinus-b")
    one, two = ({(found["kind"], found["metadata"]["name"]) for found in documents(text)} for text in texts)
    assert not one & two
    served = [ServeSettings.model_validate(settings(by_version(text)[1])) for text in texts]
    assert [str(found.service) for found in served] == ["serinus/retail", "serinus/retail-b"]
    assert served[0].salt != served[1].salt
    uris = [by_version(text)[1]["spec"]["predictor"]["model"]["storageUri"] for text in texts]
    assert [uri.partition("/bundles/")[2] for uri in uris] == [f"retail/{'a' * 64}"] * 2


def test_a_name_that_is_too_long_for_the_hosts_that_kserve_makes_is_refused() -> None:
    assert rendered({"service.name": "a" * 32})
    with pytest.raises(ValueError, match="at most 39 characters together"):
        rendered({"service.name": "a" * 33})


def test_without_revisions_there_are_neither_predictors_nor_a_route() -> None:
    kinds = {one["kind"] for one in documents(rendered())}
    assert not kinds & {"InferenceService", "HTTPRoute"}
    assert {"ServingRuntime", "Gateway", "Job", "StatefulSet"} <= kinds


def test_passwords_and_the_tracking_server_come_from_secrets_alone() -> None:
    text = rendered(
        BOTH, {"features.existingSecret": "f", "events.existingSecret": "e", "tracking.existingSecret": "t"}
    )
    wanted = {"FEATURES_PASSWORD": ("f", "password"), "EVENTS_PASSWORD": ("e", "password")}
    wanted["SERINUS_TRACKING_URI"] = ("t", "tracking_uri")
    found = [one for document in documents(text) for one in _secrets(document)]
    assert {name: wanted[name] for name, *_ in found} == {name: (secret, key) for name, secret, key in found}
    assert {name for name, *_ in found} == set(wanted)
    served = ServeSettings.model_validate(settings(by_version(text)[1]))
    assert served.online == "redis://:$(FEATURES_PASSWORD)@serinus-features:6379/0"
    assert served.events == "redis://:$(EVENTS_PASSWORD)@serinus-events:6379/0"
    assert not list(_secrets(documents(rendered(BOTH))))


def test_the_collector_takes_its_settings() -> None:
    (collector,) = (one for one in documents(rendered(), "Deployment") if "collector" in one["metadata"]["name"])
    (argument,) = collector["spec"]["template"]["spec"]["containers"][0]["args"]
    assert CollectSettings.model_validate_json(argument).events == "redis://serinus-events:6379/0"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"servic": {}}, "'servic' not allowed"),
        ({"features.resources.limit": {}}, "'limit' not allowed"),
        ({"service.name": "Retail"}, "/service/name"),
        ({"service.name": "a" * 36}, "/service/name"),
        ({"service.problem": "card_fraud"}, "/service/problem"),
        ({"revisions.stable.bundle": "b7bbe1"}, "/revisions/stable/bundle"),
        ({"revisions.stable.bundle": "a" * 64}, "/revisions/stable/version"),
        ({"revisions.canary.version": "2"}, "/revisions/canary/version"),
        ({"route.weight": 101}, "/route/weight"),
        ({"images.predictor": "serinus/predictor"}, "/images/predictor"),
        ({"home.accessMode": "RWX"}, "/home/accessMode"),
        ({"predictor.pauseSeconds": 60}, "/predictor/pauseSeconds"),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
def test_wrong_values_are_refused_by_their_place(values: Mapping[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match="values don't meet the specifications") as refused:
        rendered(values)
    assert told in str(refused.value)


def _secrets(node: object) -> list[tuple[str, str, str]]:
    """Variable, Secret and key of every reference below."""
    if isinstance(node, list):
        return [one for part in node for one in _secrets(part)]
    if not isinstance(node, dict):
        return []
    reference: Document | None = (node.get("valueFrom") or {}).get("secretKeyRef") if "valueFrom" in node else None
    if reference:
        return [(node["name"], reference["name"], reference["key"])]
    return [one for part in node.values() for one in _secrets(part)]
