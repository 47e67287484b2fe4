"""What is in our images, read from the archives that the bed imported: size, user, and what must not be there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.bed.places import REPOSITORY, places
from tests.cluster.bed.plan import Plan
from tests.cluster.image_archive import Contents, contents

pytestmark = [pytest.mark.cluster, pytest.mark.bed]

PREDICTOR_BYTES = 450e6
NOT_TO_PREDICT = {"pyarrow", "feast", "mlflow", "kfp", "duckdb", "great-expectations", "scikit-learn"}
USER = "65532:65532"
SITE = "opt/serinus/lib/python3.11/site-packages"
TOOLS = {"gcc", "g++", "cc", "c++", "clang", "as", "ld", "make", "cmake", "pip", "pip3", "wheel", "protoc"}
PACKAGES_OF_TOOLS = {"pip", "setuptools", "wheel", "grpcio-tools", "grpc-tools"}


@pytest.fixture(scope="module", params=["predictor", "operator", "pipeline"])
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def image(target: str) -> Contents:
    return contents(Path(Plan.read(places().run).images[f"docker.io/serinus/{target}:dev"]))


def test_a_process_is_no_root_and_has_a_numeric_user(image: Contents) -> None:
    assert image.config["User"] == USER
    assert image.environment["HOME"] == "/tmp"


def test_an_image_has_neither_compiler_nor_installer(image: Contents) -> None:
    assert not image.commands() & TOOLS
    assert not [path for path in image.files if path.endswith((".whl", ".deb", ".a"))]
    assert not packages(image) & PACKAGES_OF_TOOLS


def test_an_environment_holds_what_its_lock_pins(image: Contents, target: str) -> None:
    lock = (REPOSITORY / "requirements" / f"{target}.lock").read_text(encoding="utf-8")
    pinned = {name.lower().replace("_", "-") for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    assert packages(image) == pinned


def test_licences_of_packages_stay(image: Contents) -> None:
    for package in ("numpy", "orjson"):
        assert [path for path in image.files if re.search(rf"{SITE}/{package}-[^/]*\.dist-info/licenses/", path)], (
            package
        )


def test_our_code_is_compiled(image: Contents) -> None:
    sources = {path for path in image.files if re.fullmatch(r"app/serinus/.*\.py", path)}
    compiled = {
        re.sub(r"__pycache__/([^/]+)\.cpython-311\.pyc$", r"\1.py", path) for path in image.files.keys() - sources
    }
    assert len(sources) > 100
    assert not sources - compiled


def test_sizes_are_told_and_the_predictor_is_small(image: Contents, target: str, figure: Callable[[str], None]) -> None:
    figure(f"{image.size / 1e6:.0f} MB unpacked in {len(image.files)} files")
    if target == "predictor":
        assert image.size <= PREDICTOR_BYTES
        assert not packages(image) & NOT_TO_PREDICT


def packages(image: Contents) -> set[str]:
    """Names of the packages in the environment and in the system's Python, as a lock spells them."""
    found = (re.search(r"-packages/([\w.-]+?)-[^-/]+\.(?:dist|egg)-info(?:/|$)", path) for path in image.files)
    return {one[1].lower().replace("_", "-").replace(".", "-") for one in found if one}
