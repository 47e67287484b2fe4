"""Bundle stores: names that travel, addresses that follow them, and content that is what its name says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from serinus.core.errors import BundleError, NotFound, UsageError
from serinus.model.bundle import content_hash
from serinus.model.stores import BundleStores, bundle_at
from tests.linear_bundle import linear_bundle


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A bundle that is in no store yet."""
    return linear_bundle(tmp_path / "made", "toy")


def test_a_store_gives_out_a_name_and_no_place(tmp_path: Path, made: Path) -> None:
    stores = BundleStores({"home": str(tmp_path / "store")})
    digest = content_hash(made)
    assert stores.put("toy", made) == f"bundles://home/toy/{digest}"
    assert stores.put("toy", made) == f"bundles://home/toy/{digest}", "putting it twice is harmless"
    assert content_hash(stores.get(f"bundles://home/toy/{digest}")) == digest
    assert [path.name for path in (tmp_path / "store/toy").iterdir()] == [digest]


def test_one_of_the_stores_is_written_to(tmp_path: Path, made: Path) -> None:
    addresses = {"home": str(tmp_path / "a"), "shared": f"file://{tmp_path}/b"}
    uri = BundleStores(addresses, "shared").put("toy", made)
    assert uri.startswith("bundles://shared/toy/")
    assert not (tmp_path / "a").exists()
    assert BundleStores(addresses).get(uri) == tmp_path / "b/toy" / content_hash(made)


def test_a_name_is_good_after_its_store_was_moved(tmp_path: Path, made: Path) -> None:
    uri = BundleStores({"home": str(tmp_path / "here")}).put("toy", made)
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert content_hash(BundleStores({"home": str(tmp_path / "there")}).get(uri)) == content_hash(made)


def test_an_address_is_opened_without_knowing_any_store(tmp_path: Path, made: Path) -> None:
    stores = BundleStores({"home": str(tmp_path / "a store")})
    uri = stores.put("toy", made)
    assert stores.address(uri) == f"file://{tmp_path}/a store/toy/{content_hash(made)}"
    assert bundle_at(stores.address(uri)) == stores.get(uri)


def test_a_folder_of_no_store_is_taken_as_it_is(tmp_path: Path, made: Path) -> None:
    stores = BundleStores({"home": str(tmp_path / "store")})
    assert stores.address(str(made)) == str(made)
    assert bundle_at(str(made)) == made


def test_another_store_with_the_same_content_will_do(tmp_path: Path, made: Path) -> None:
    addresses = {"home": str(tmp_path / "a"), "shared": str(tmp_path / "b")}
    stores = BundleStores(addresses)
    digest = content_hash(made)
    for name in addresses:
        BundleStores(addresses, name).put("toy", made)
    shared = f"bundles://shared/toy/{digest}"
    assert stores.get(shared).is_relative_to(tmp_path / "b"), "its own is asked first"
    shutil.rmtree(tmp_path / "b")
    assert stores.get(shared) == tmp_path / "a/toy" / digest
    assert stores.get(f"bundles://elsewhere/toy/{digest}") == tmp_path / "a/toy" / digest


def test_a_store_that_is_not_known_here_is_told_with_those_that_are(tmp_path: Path) -> None:
    stores = BundleStores({"home": str(tmp_path), "shared": str(tmp_path)})
    with pytest.raises(UsageError, match="no bundle store elsewhere") as told:
        stores.get(f"bundles://elsewhere/toy/{'0' * 64}")
    assert told.value.cause == "it has home, shared"
    with pytest.raises(UsageError, match="no bundle store elsewhere"):
        BundleStores({"home": str(tmp_path)}, "elsewhere")


def test_an_unknown_scheme_is_told_with_those_that_are_known() -> None:
    with pytest.raises(UsageError, match="ftp://host/bundles is no address of a bundle store") as told:
        BundleStores({"home": "ftp://host/bundles"})
    assert told.value.hint == "known: a path, file://…"
    with pytest.raises(UsageError, match="is no address of a bundle store"):
        bundle_at(f"ftp://host/bundles/toy/{'0' * 64}")


def test_a_bundle_that_changed_is_refused(tmp_path: Path, made: Path) -> None:
    stores = BundleStores({"home": str(tmp_path / "store")})
    uri = stores.put("toy", made)
    (stores.get(uri) / "weights.npz").write_bytes(b"")
    for read in (lambda: stores.get(uri), lambda: bundle_at(stores.address(uri))):
        with pytest.raises(BundleError, match="has changed since it was stored"):
            read()


@pytest.mark.parametrize("damage", ["changed", "half deleted"])
def test_a_bundle_is_not_taken_for_stored_where_what_is_stored_changed(tmp_path: Path, made: Path, damage: str) -> None:
    """A version would be registered that nobody can serve. What the hint says mends it."""
    stores = BundleStores({"home": str(tmp_path / "store")})
    folder = stores.get(stores.put("toy", made))
    if damage == "changed":
        (folder / "weights.npz").write_bytes(b"")
    else:
        (folder / "bundle.json").unlink()
    with pytest.raises(BundleError, match="has changed since it was stored") as told:
        stores.put("toy", made)
    assert "delete that folder" in told.value.hint
    shutil.rmtree(folder)
    assert stores.get(stores.put("toy", made)) == folder


@pytest.mark.parametrize(
    "uri", [f"bundles://home/toy/{'0' * 64}", f"file:///gone/toy/{'0' * 64}", "file:///nowhere", "file:///b/9"]
)
def test_a_bundle_that_is_not_there_is_told(uri: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no bundle at /|no bundle at file:///nowhere"):
        BundleStores({"home": str(tmp_path)}).get(uri)


def test_a_damaged_name_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names no stored bundle"):
        BundleStores({"home": str(tmp_path)}).get("bundles://home/toy/abc")


# Release 0.1 wrote places: `file:///<home>/bundles/<model>/<hash>`.


def test_an_old_uri_is_read_where_it_is(tmp_path: Path, made: Path) -> None:
    elsewhere = BundleStores({"home": str(tmp_path / "old")})
    place = elsewhere.address(elsewhere.put("toy", made))
    stores = BundleStores({"home": str(tmp_path / "new")})
    assert stores.get(place) == tmp_path / "old/toy" / content_hash(made)
    assert stores.named(place) == place, "no store of this profile has it"


def test_an_old_uri_inside_a_store_gets_the_name_that_it_would_have_today(tmp_path: Path, made: Path) -> None:
    stores = BundleStores({"home": str(tmp_path / "a"), "shared": str(tmp_path / "b")}, "shared")
    uri = stores.put("toy", made)
    assert stores.named(f"file://{tmp_path}/b/toy/{content_hash(made)}") == uri
    assert stores.named(f"file://{tmp_path}/a/toy/{'0' * 64}") == f"bundles://home/toy/{'0' * 64}", "gone, and named"
    assert stores.named(uri) == uri


def test_an_old_uri_whose_home_was_moved_is_found_by_its_content(tmp_path: Path, made: Path) -> None:
    old = BundleStores({"home": str(tmp_path / "here")})
    place = old.address(old.put("toy", made))
    shutil.move(tmp_path / "here", tmp_path / "there")
    stores = BundleStores({"home": str(tmp_path / "there")})
    assert stores.get(place) == tmp_path / "there/toy" / content_hash(made)
    assert stores.named(place) == f"bundles://home/toy/{content_hash(made)}"


@pytest.mark.parametrize("place", ["/a/folder", "file:///b/9", "file:///b", "pvc://home/bundles/toy/abc"])
def test_what_names_no_content_stays_as_it_is(place: str, tmp_path: Path) -> None:
    assert BundleStores({"home": str(tmp_path)}).named(place) == place
