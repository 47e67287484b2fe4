"""The frame of the cluster tests: the cluster with what it must have, namespaces, and dumps of what failed.

`pytest tests/cluster -m "cluster and not bed"` takes the cluster of KUBECONFIG; `--full` loads it for longer. Dumps
go to SERINUS_CLUSTER_DUMPS, else to `.serinus/cluster-dumps`.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.bed.places import places
from tests.cluster.capabilities import missing
from tests.cluster.dump import GATEWAYS, OPEN, dump, dump_bed, folder_of, opened
from tests.cluster.first_service import FirstService, first_service
from tests.cluster.kube import Kube, wait_until
from tests.cluster.manifests import NAMESPACE, committed

ROOT = Path(__file__).parents[2]
DELETE_SECONDS = 180.0
SETTLE_SECONDS = 60.0
_FIGURES = pytest.StashKey[list[str]]()
_RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}


@dataclass(frozen=True)
class Scale:
    """How long to load and how often to repeat: `factor` multiplies numbers of requests, `repeats` whole faults."""

    factor: int = 1
    repeats: int = 1


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="Longer load and more repetitions on the cluster.")


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Tells what was measured; shown at the end of the run. No figure of time decides a test."""

    def tell(text: str) -> None:
        request.config.stash[_FIGURES].append(f"{request.node.name}: {text}")

    return tell


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = list[str]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    figures = config.stash[_FIGURES]
    if figures:
        terminalreporter.section("measured")
        terminalreporter.write("\n".join(figures) + "\n")


@pytest.fixture(scope="session")
def scale(request: pytest.FixtureRequest) -> Scale:
    return Scale(factor=5, repeats=3) if request.config.getoption("--full") else Scale()


@pytest.fixture(scope="session")
def cluster() -> Kube:
    """The cluster of KUBECONFIG; every test that uses it fails, with the names, when it lacks something."""
    kube = Kube()
    lacking = missing(kube)
    assert not lacking, f"the cluster lacks {'; '.join(lacking)}"
    return kube


@pytest.fixture(scope="session")
def first(
    cluster: Kube, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[FirstService]:
    """The first service, which takes minutes to train and to come up: its tests share it."""
    assert cluster.find("namespace", NAMESPACE) is None, f"the how-to makes namespace {NAMESPACE}, which is there"
    with (
        _open(cluster, NAMESPACE, "first-service"),
        first_service(cluster, tmp_path_factory.mktemp("first")) as service,
    ):
        if committed(service.reader.folder) != committed():
            request.config.stash[_FIGURES].append(
                "the cluster trained other bytes than the committed manifests name: they were written anew"
            )
        yield service


@pytest.fixture
def namespace(cluster: Kube, request: pytest.FixtureRequest) -> Iterator[Kube]:
    """A namespace for one test."""
    with own_namespace(cluster, request.node.name) as kube:
        yield kube


@contextmanager
def own_namespace(cluster: Kube, test: str) -> Iterator[Kube]:
    """Where pods must be restricted ones. Gone at the end with all that is in it."""
    name = f"{re.sub(r'[^a-z0-9]+', '-', test.lower()).strip('-')[:40]}-{secrets.token_hex(3)}"
    metadata = {"name": name, "labels": {**_RESTRICTED, "serinus.dev/test": "true"}}
    cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}])
    with _open(cluster, name, test) as kube:
        # Without it no pod is taken; it is made a moment later.
        wait_until(f"{name} has its account", lambda: _absent(kube, "serviceaccount", "default"), SETTLE_SECONDS)
        yield kube


@contextmanager
def _open(cluster: Kube, name: str, test: str) -> Iterator[Kube]:
    """A namespace, there or to be made: dumped when what is in it fails, and gone at the end."""
    try:
        with opened(name):
            try:
                yield cluster.within(name)
            except BaseException:
                # It failed to come up: the namespace is gone before pytest tells of it.
                _dump_open(f"{test}.setup")
                raise
    finally:
        cluster.run("delete", "namespace", name, "--ignore-not-found", "--wait", seconds=DELETE_SECONDS)


def _absent(kube: Kube, kind: str, name: str) -> str | None:
    return None if kube.find(kind, name) else "it is not there"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Dumps while what failed is still there."""
    report = yield
    if report.failed and OPEN:
        folder = _dump_open(f"{item.nodeid}.{report.when}")
        report.sections.append(("cluster", f"objects and logs are in {folder}"))
    return report


def _dump_open(test: str) -> Path:
    """The folder with a dump of every namespace that is open, that of the gateways, and the beds that are ours."""
    root = Path(os.environ.get("SERINUS_CLUSTER_DUMPS") or ROOT / ".serinus" / "cluster-dumps")
    folder = folder_of(root, test)
    namespaces = [one for one in OPEN if isinstance(one, str)]
    beds = [one for one in OPEN if isinstance(one, Path)]
    if namespaces and os.environ.get("KUBECONFIG") == str(places().kubeconfig):
        beds.append(places().logs)
    for name in [*namespaces, GATEWAYS] if namespaces else []:
        dump(Kube(name), folder / name)
    for number, logs in enumerate(beds):
        dump_bed(logs, folder / f"bed-{number}")
    return folder
