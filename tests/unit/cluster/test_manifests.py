"""The manifests as committed: what they serve is what their values name, restricted, and routed as a rollout would."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from serinus.core.names import ModelRef, ServiceRef
from serinus.core.revision import revision_name
from serinus.rollout.http_route import Parent, http_route
from serinus.wiring.chart import Shares, chart_values
from serinus.wiring.deployer import FileDeployer
from serinus.wiring.project import open_project
from serinus.wiring.serving import outcome_names
from serinus.wiring.settings import CollectSettings, ServeSettings
from tests.cluster.manifests import (
    CHART,
    CONSTANTS,
    GATEWAY,
    HOLD_BACK,
    HOME_CLAIM,
    NAMESPACE,
    OVERLAY,
    REVISIONS,
    ROOT,
    SALT,
    SEED,
    SERVICE,
    VALUES,
    WEIGHT,
    Document,
    bundle,
    by_version,
    committed,
    documents,
    revision_names,
    route,
    settings,
)

BASE = committed()
REF = ServiceRef(NAMESPACE, SERVICE)


def _values(path: Any) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def _pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for one in documents(BASE, "ServingRuntime"):
        yield one["metadata"]["name"], one["spec"]
    for one in documents(BASE, "StatefulSet", "Deployment", "Job"):
        yield one["metadata"]["name"], one["spec"]["template"]["spec"]
    for one in documents(BASE, "InferenceService"):
        yield one["metadata"]["name"], one["spec"]["predictor"]


def _containers() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, spec in _pods():
        for one in [*spec.get("initContainers", []), *spec.get("containers", [])]:
            yield f"{name}/{one['name']}", one


def test_the_base_serves_what_the_sample_names() -> None:
    """Rendered from it, by helm: tests/cluster/test_chart.py holds every byte of the base against it."""
    named = _values(REVISIONS)["revisions"]
    found = {str(version): bundle(one) for version, one in by_version(BASE).items()}
    assert found == {one["version"]: one["bundle"] for one in named.values()}


def test_the_sample_is_what_the_command_writes(tmp_path: Any) -> None:
    named = _values(REVISIONS)
    project = open_project({"SERINUS_HOME": str(tmp_path)}, start=ROOT)
    for one in named["revisions"].values():
        model = ModelRef(SERVICE, int(one["version"]))
        FileDeployer(tmp_path / "services").want(REF, model, f"bundles://home/{SERVICE}/{one['bundle']}")
    # The key types are those of the bundle, which is not here.
    assert named["service"].pop("keys") == {"unit": "INT64", "item": "STRING"}
    written = chart_values(project, REF, Shares(WEIGHT))
    del written["service"]["keys"]
    assert written == named
    card = project.problem(SERVICE).card
    assert (card.data.seed, card.operation.rollout.hold_back) == (SEED, HOLD_BACK)


def test_the_route_is_that_of_a_rollout_over_both_revisions() -> None:
    assert documents(BASE, "HTTPRoute") == [http_route(route(revision_names(BASE)), Parent(GATEWAY))]
    assert documents(BASE, "Gateway")[0]["metadata"]["name"] == GATEWAY


def test_the_collector_knows_outcomes_and_ids_of_the_card() -> None:
    pods = [one["spec"]["template"]["spec"] for one in documents(BASE, "Deployment")]
    (collector,) = [one for pod in pods for one in pod["containers"] if one["name"] == "collector"]
    collects = CollectSettings.model_validate_json(collector["args"][0])
    assert (collects.label, *collects.outcomes) == outcome_names(open_project(start=ROOT).problem(SERVICE).card)
    assert (collects.kinds.unit, collects.kinds.item, collects.kinds.passes) == ("INT64", "STRING", True)


@pytest.mark.parametrize("one", by_version(BASE).values(), ids=lambda one: one["metadata"]["name"])
def test_a_revision_is_named_by_what_it_serves_and_serves_it(one: Document) -> None:
    model, name = one["spec"]["predictor"]["model"], one["metadata"]["name"]
    served = ServeSettings.model_validate(settings(one))
    assert (served.revision, str(served.version)) == (name, one["metadata"]["labels"]["serinus.dev/version"])
    assert (served.service, served.salt, served.accept_event_time) == (REF, SALT, True)
    assert model["storageUri"].startswith(f"pvc://{HOME_CLAIM}/bundles/{SERVICE}/")
    assert name.startswith(revision_name(SERVICE, served.version, "")[: -len("hash66")])
    assert len(f"{name}-predictor") <= 63
    assert one["metadata"]["labels"]["networking.kserve.io/visibility"] == "cluster-local"


@pytest.mark.parametrize("one", by_version(BASE).values(), ids=lambda one: one["metadata"]["name"])
def test_a_predictor_waits_for_the_bundle_that_it_serves(one: Document) -> None:
    spec = one["spec"]["predictor"]
    (wait,) = spec["initContainers"]
    assert f"bundle=bundles/{SERVICE}/{bundle(one)}\ncd /home\n" in wait["command"][-1]
    # KServe's own name for it: under another one the pod would have the claim twice, and would never be started.
    assert wait["volumeMounts"] == [{"name": "kserve-pvc-source", "mountPath": "/home", "readOnly": True}]
    claim = {"claimName": HOME_CLAIM, "readOnly": True}
    assert spec["volumes"] == [{"name": "kserve-pvc-source", "persistentVolumeClaim": claim}]


def test_every_container_is_a_restricted_one() -> None:
    found = list(_containers())
    assert len(found) == 9
    for name, one in found:
        security = one["securityContext"]
        assert security["runAsNonRoot"], name
        assert security["runAsUser"] >= 10_000, name
        assert security["readOnlyRootFilesystem"], name
        assert not security["allowPrivilegeEscalation"], name
        assert security["capabilities"] == {"drop": ["ALL"]}, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert one["imagePullPolicy"] == "IfNotPresent", name
        assert one["resources"]["limits"]["memory"], name
        assert one["resources"]["requests"]["cpu"], name


def test_every_server_is_probed() -> None:
    servers = {name: one for name, one in _containers() if "ports" in one}
    assert len(servers) == 4
    for name, one in servers.items():
        assert {"readinessProbe", "livenessProbe"} <= set(one), name


def test_no_pod_has_a_token() -> None:
    assert all(
        spec["automountServiceAccountToken"] is False for _, spec in _pods() if "supportedModelFormats" not in spec
    )


def test_what_is_acknowledged_by_the_event_log_is_on_disk() -> None:
    (events,) = (one for one in documents(BASE, "StatefulSet") if one["metadata"]["name"] == "serinus-events")
    arguments = events["spec"]["template"]["spec"]["containers"][0]["args"]
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "always"
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--no-appendfsync-on-rewrite"] == "no"


def test_the_store_is_where_the_job_the_tools_and_the_predictors_look() -> None:
    addresses = {settings(one)["online"] for one in by_version(BASE).values()}
    for one in documents(BASE, "Job", "Deployment"):
        for container in one["spec"]["template"]["spec"]["containers"]:
            addresses |= {each["value"] for each in container.get("env", []) if each["name"] == "SERINUS_ONLINE"}
    assert addresses == {"redis://serinus-features:6379/0"}


def test_the_job_and_the_tools_make_the_service_with_the_salt_of_the_predictors() -> None:
    found = []
    for one in documents(BASE, "Job", "Deployment"):
        for container in one["spec"]["template"]["spec"]["containers"]:
            told = {each["name"]: each.get("value") for each in container.get("env", [])}
            found += [(told["SERINUS_SERVICE"], told["SERINUS_SALT"])] if "SERINUS_SALT" in told else []
    assert found == [(str(REF), SALT)] * 2


def _schema() -> dict[str, Any]:
    return dict(_values(CHART / "values.schema.json"))


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = _schema()
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(VALUES, schema)
    for node in _objects(schema):
        assert node["additionalProperties"] is False, node
    assert _leaves(schema, schema) == {path for path in _paths(VALUES) if "resources" not in path}


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield node
        for part in node.values():
            yield from _objects(part)


def _leaves(node: dict[str, Any], schema: dict[str, Any], path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Paths of the values that the schema knows; `resources` are Kubernetes' own."""
    if "$ref" in node:
        node = schema["definitions"][node["$ref"].rpartition("/")[2]]
    if path and path[-1] == "resources":
        return set()
    if node.get("type") != "object":
        return {path}
    return {leaf for name, part in node["properties"].items() for leaf in _leaves(part, schema, (*path, name))}


def _paths(values: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    if not isinstance(values, dict):
        return {path}
    return {leaf for name, part in values.items() for leaf in _paths(part, (*path, name))}


def test_the_samples_are_values_of_the_chart() -> None:
    schema = _schema() | {"required": []}
    schema["properties"]["revisions"]["required"] = []
    for path in sorted((ROOT / CONSTANTS).parent.glob("*.yaml")):
        found = _values(path)
        assert _paths(found) <= _paths(VALUES), path
        jsonschema.validate(found, schema)


def test_the_reference_has_every_value_with_its_default() -> None:
    text = (ROOT / "docs/reference/chart.md").read_text(encoding="utf-8")
    for path in _paths(VALUES):
        if "resources" in path:
            amount = path[-1]
            assert f"| `{'.'.join(path[: path.index('resources') + 1])}` |" in text, path
            assert f"{amount} {_at(path)}" in text, path
        else:
            default = {"": "", "[]": "", "True": "`true`", "False": "`false`"}.get(str(_at(path)), f"`{_at(path)}`")
            assert f"| `{'.'.join(path)}` | {default} |" in text, path


def _at(path: tuple[str, ...]) -> Any:
    found = VALUES
    for name in path:
        found = found[name]
    return found


def test_the_overlay_is_the_base_in_a_namespace_that_takes_restricted_pods_alone() -> None:
    kustomization = _values(OVERLAY / "kustomization.yaml")
    assert kustomization["namespace"] == NAMESPACE
    (folder,) = (one for one in kustomization["resources"] if not one.endswith(".yaml"))
    assert (ROOT / OVERLAY / folder).resolve() == (ROOT / "manifests/base").resolve()
    namespace = _values(OVERLAY / "namespace.yaml")
    assert namespace["metadata"]["name"] == NAMESPACE
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
