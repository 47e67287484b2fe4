"""The manifests of the first service: fresh, named by what they serve, restricted, and routed as a rollout would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serinus.core.revision import revision_name
from serinus.rollout.http_route import Parent, http_route
from serinus.wiring.settings import ServeSettings
from tests.cluster import first_manifests
from tests.cluster.first_manifests import FOLDER, GATEWAY, committed, rendered, route
from tests.cluster.trained import Bundles

FILES = sorted(FOLDER.rglob("*.yaml"))


def _documents(*kinds: str) -> list[dict[str, Any]]:
    every = [one for path in FILES for one in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
    return [one for one in every if one["kind"] in kinds]


def _pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for one in _documents("Pod", "ServingRuntime"):
        yield one["metadata"]["name"], one["spec"]
    for one in _documents("StatefulSet", "Deployment", "Job"):
        yield one["metadata"]["name"], one["spec"]["template"]["spec"]


def test_the_folder_is_what_the_script_writes() -> None:
    made = rendered(committed())
    assert sorted(made) == FILES
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, f"stale: python -m tests.cluster.first_manifests ({path.name})"


def test_the_route_is_that_of_a_rollout_over_both_revisions() -> None:
    names = [one["metadata"]["name"] for one in _documents("InferenceService")]
    assert _documents("HTTPRoute") == [http_route(route(names), Parent(GATEWAY))]
    assert _documents("Gateway")[0]["metadata"]["name"] == GATEWAY


@pytest.mark.parametrize("one", _documents("InferenceService"), ids=lambda one: one["metadata"]["name"])
def test_a_revision_is_named_by_what_it_serves_and_serves_it(one: dict[str, Any]) -> None:
    model, name = one["spec"]["predictor"]["model"], one["metadata"]["name"]
    settings = ServeSettings.model_validate(json.loads(model["args"][0]))
    assert (settings.revision, settings.version) == (name, one["metadata"]["labels"]["serinus.dev/version"])
    assert model["storageUri"].startswith("pvc://serinus/bundles/retail/")
    assert name.startswith(revision_name("retail", settings.version, "")[: -len("hash66")])
    assert len(f"{name}-predictor") <= 63
    assert one["metadata"]["labels"]["networking.kserve.io/visibility"] == "cluster-local"


def test_another_bundle_or_another_template_is_another_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    def names(digest: str) -> list[str]:
        text = rendered(Bundles({1: digest, 2: "b" * 64}))[FOLDER / "revisions.yaml"]
        return [one["metadata"]["name"] for one in yaml.safe_load_all(text)]

    before = names("a" * 64)
    assert names("a" * 64) == before
    assert names("c" * 64)[0] != before[0]
    assert names("c" * 64)[1] == before[1]
    monkeypatch.setitem(first_manifests.SERVED, "salt", "another")
    assert not set(names("a" * 64)) & set(before)


def test_every_container_is_a_restricted_one() -> None:
    found = list(_pods())
    assert len(found) == 6
    for name, spec in found:
        for one in [*spec.get("initContainers", []), *spec["containers"]]:
            security = one["securityContext"]
            assert security["runAsNonRoot"], name
            assert security["runAsUser"] >= 10_000, name
            assert security["readOnlyRootFilesystem"], name
            assert not security["allowPrivilegeEscalation"], name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
            assert one["imagePullPolicy"] == "IfNotPresent", name
            assert one["resources"]["limits"]["memory"], name


def test_what_is_acknowledged_by_the_event_log_is_on_disk() -> None:
    (events,) = (one for one in _documents("StatefulSet") if one["metadata"]["name"] == "events")
    arguments = events["spec"]["template"]["spec"]["containers"][0]["args"]
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "always"
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--no-appendfsync-on-rewrite"] == "no"


def test_files_say_what_they_are_for() -> None:
    for path in FILES:
        first, second = path.read_text(encoding="utf-8").splitlines()[:2]
        assert first.startswith("# "), path
        assert "first_manifests" in second, path


def test_a_home_without_a_finished_run_is_none(tmp_path: Path) -> None:
    from tests.cluster.trained import finished

    with pytest.raises(FileNotFoundError):
        finished(tmp_path)
