"""The commands of docs/how-to/kubernetes.md as they stand: those up to Ready have brought the first service up."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest

from serinus.client.bucket import bucket_of
from serinus.core.words import Arm
from tests.cluster.dump import opened
from tests.cluster.first_service import FirstService, not_answering
from tests.cluster.how_to import blocks, reader
from tests.cluster.kube import Kube, wait_until
from tests.cluster.manifests import (
    BASE,
    CONSTANTS,
    NAMESPACE,
    REVISIONS,
    SALT,
    bundle,
    by_version,
    committed,
    component,
    rendered,
    revision_names,
    route,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
UNIT = "12348"
BUCKET = bucket_of(SALT, UNIT)
BY_HELM = "by-helm"


def test_a_prediction_through_the_gateway_and_a_lookup_in_the_clusters_store(first: FirstService) -> None:
    assigned = first.canary if route([first.stable, first.canary]).assigned(BUCKET) is Arm.CANARY else first.stable
    assert f"x-serinus-bucket: {BUCKET:03d}" in blocks().ask
    assert UNIT in blocks().ask
    answer = first.reader.run(blocks().ask)
    assert revision(answer) == assigned
    flags = json.loads(answer)["predictions"][0]["flags"]
    assert flags == {"bucket": "ok", "cold_start": False}
    seen = first.reader.run(blocks().look_up)
    assert f"customer {UNIT}" in seen
    assert "item 85123A" in seen
    assert "unknown" not in seen


def test_manifests_of_another_kind_of_cpu_follow_what_was_trained_here(
    first: FirstService, cluster: Kube, tmp_path: Path
) -> None:
    """Committed there, they name bundles that nobody trains here: their predictors wait, and say so."""
    copy = reader(cluster, tmp_path / "reader")
    copy.run("kubectl config set-context --current --namespace serinus")
    named = (copy.folder / REVISIONS).read_text(encoding="utf-8")
    for digit, one in zip("ef", by_version(committed(copy.folder)).values(), strict=True):
        named = named.replace(bundle(one), digit * 64)
    (copy.folder / REVISIONS).write_text(named, encoding="utf-8")
    foreign = rendered(copy.folder / CONSTANTS, copy.folder / REVISIONS, folder=copy.folder)
    (copy.folder / BASE).write_text(foreign, encoding="utf-8")
    assert not set(revision_names(foreign)) & {first.stable, first.canary}
    copy.run(blocks().apply)
    wait_until("they wait for their bundles", lambda: _not_waiting(first.kube, revision_names(foreign)), 60.0)
    copy.run(blocks().follow)
    assert committed(copy.folder) == committed(first.reader.folder)
    copy.run(blocks().wait)
    wait_until("the service answers as before", lambda: not_answering(first), 60.0)
    left = {one["metadata"]["name"] for one in first.kube.every("inferenceservices")}
    assert left == {first.stable, first.canary}


def _not_waiting(kube: Kube, names: list[str]) -> str | None:
    for name in names:
        pods = kube.pods(f"serving.kserve.io/inferenceservice={name}")
        said = kube.run("logs", pods[0]["metadata"]["name"], "--container", "wait-for-bundle") if pods else "no pod"
        if "is not there; there are: bundles/retail/" not in said:
            return f"{name}: {said}"
    return None


def test_all_weight_but_the_hold_back_goes_to_the_second_revision(first: FirstService) -> None:
    first.reader.run(blocks().weigh)

    def still_the_old_one() -> str | None:
        answered = revision(first.reader.run(blocks().ask_again))
        return None if answered == first.canary else f"answered by {answered}"

    wait_until("the second revision answers", still_the_old_one, 30.0)


def test_the_event_log_is_shown_and_everything_goes(first: FirstService, cluster: Kube) -> None:
    assert ".parquet" in first.reader.run(blocks().look)
    first.reader.run(blocks().end)
    assert cluster.find("namespace", NAMESPACE) is None


@pytest.fixture
def by_helm(cluster: Kube) -> Iterator[Kube]:
    assert cluster.find("namespace", BY_HELM) is None, f"the how-to makes namespace {BY_HELM}, which is there"
    with opened(BY_HELM):
        yield cluster.within(BY_HELM)
    cluster.run("delete", "namespace", BY_HELM, "--ignore-not-found", "--wait", seconds=180)


def test_a_release_has_passwords_from_a_secret_and_they_are_asked_for(
    by_helm: Kube, cluster: Kube, tmp_path: Path
) -> None:
    reader(cluster, tmp_path / "reader").run(blocks().install)
    for name in ("features", "events"):
        with_it = by_helm.execute(f"serinus-{name}-0", "redis-cli", "ping")
        without = by_helm.execute(f"serinus-{name}-0", "env", "-u", "REDISCLI_AUTH", "redis-cli", "ping")
        assert (with_it.strip(), "NOAUTH" in without) == ("PONG", True)
    asked = "import os, redis; print(redis.Redis.from_url(os.environ['SERINUS_ONLINE']).ping())"
    assert by_helm.execute("deployment/serinus-tools", "python", "-c", asked).strip() == "True"
    wait_until("its training has begun", lambda: _not_running(by_helm), 60.0)
    secret = b64decode(by_helm.get("secret", "redis")["data"]["password"]).decode()
    every = by_helm.run("get", "statefulsets,deployments,jobs,servingruntimes", "--output", "yaml")
    assert secret not in every
    assert not by_helm.every("inferenceservices")


def _not_running(kube: Kube) -> str | None:
    pods = kube.pods(component("training"))
    return None if pods and pods[0]["status"]["phase"] == "Running" else f"{[one['status'] for one in pods]}"


def revision(answer: str) -> str:
    """Who answered."""
    return str(json.loads(answer)["predictions"][0]["revision"])
