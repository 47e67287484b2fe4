"""A version that is registered with one home is served with another, when both profiles know the bundle store."""

from __future__ import annotations

from pathlib import Path

import pytest

from serinus.core.errors import NotFound, UsageError
from serinus.core.names import ModelRef, ServiceRef
from serinus.model.bundle import content_hash
from serinus.model.stores import bundle_at
from serinus.wiring.adapters import bundle_store, deployer, registry
from serinus.wiring.project import Project, open_project
from serinus.wiring.restore import restore
from serinus.wiring.rollout_start import want
from serinus.wiring.rollouts import _address
from serinus.wiring.serving import Wish, serve_settings
from tests.linear_bundle import linear_bundle

RENEWAL = ServiceRef("default", "renewal")


@pytest.fixture
def registered(renewal_project: Path, tmp_path: Path) -> str:
    """The content of version 1, which a first home has registered; its bundle is in the store that it shares."""
    project = _home(renewal_project, "first", "shared")
    uri = bundle_store(project).put("renewal", linear_bundle(tmp_path / "made", "renewal"))
    registry(project).register("renewal", run_id="0" * 32, storage_uri=uri, tags={})
    return content_hash(tmp_path / "made")


def _home(root: Path, name: str, store: str = "") -> Project:
    shared = {"SERINUS_BUNDLE_STORE": store, "SERINUS_BUNDLE_STORES": f"{store}={root.parent}/bundles"}
    env = {"SERINUS_PROJECT": str(root), "SERINUS_HOME": str(root.parent / name)} | (shared if store else {})
    return open_project(env | {"SERINUS_TRACKING_URI": f"sqlite:///{root.parent}/registry/mlflow.db"})


def test_a_version_of_another_home_is_served_from_the_shared_store(
    renewal_project: Path, tmp_path: Path, registered: str
) -> None:
    project = _home(renewal_project, "second", "shared")
    found = registry(project).version("renewal", "1")
    assert found.storage_uri == f"bundles://shared/renewal/{registered}"
    assert want(project, RENEWAL, "1", "", "renewal").revision.storage_uri == found.storage_uri
    wish = Wish(RENEWAL, version="1")
    settings = serve_settings(project, wish, host="127.0.0.1", http_port=1, grpc_port=0)
    assert bundle_at(settings.storage_uri) == tmp_path / "bundles/renewal" / registered


def test_without_that_store_it_is_refused_before_it_is_wanted(renewal_project: Path, registered: str) -> None:
    project = _home(renewal_project, "third")
    deployer(project).want(RENEWAL, ModelRef("renewal", 2), "file:///b2")
    with pytest.raises(UsageError, match="no bundle store shared"):
        want(project, RENEWAL, "1", "", "renewal")
    known = deployer(project).service(RENEWAL)
    assert known is not None
    assert known.model.version == 2


def test_a_store_that_is_known_no_more_stops_its_arm_alone(renewal_project: Path, registered: str) -> None:
    address = _address(bundle_store(_home(renewal_project, "third")), f"bundles://shared/renewal/{registered}")
    with pytest.raises(UsageError, match="relative to a bundle store that is not known here"):
        bundle_at(address)


def test_a_revision_has_one_name_wherever_its_home_is(renewal_project: Path, registered: str) -> None:
    names = set()
    for home in ("here", "there"):
        project = _home(renewal_project, home, "shared")
        names.add(want(project, RENEWAL, "1", "", "renewal").revision.name)
    assert len(names) == 1


def test_a_deleted_version_is_restored_by_the_content_of_its_bundle(renewal_project: Path, tmp_path: Path) -> None:
    """Its service was made by release 0.1, which wrote a place, and its home was moved since."""
    project = _home(renewal_project, "first")
    digest = content_hash(linear_bundle(tmp_path / "made", "renewal"))
    deployer(project).want(RENEWAL, ModelRef("renewal", 7), f"file:///gone/bundles/renewal/{digest}")
    with pytest.raises(NotFound, match="no bundle at"):
        restore(project, "renewal", "7")
    uri = bundle_store(project).put("renewal", tmp_path / "made")
    assert restore(project, "renewal", "7").storage_uri == uri
