"""How the bed names, fills and measures images; and the diet that keeps what is needed."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from images import diet
from images.compiled import loaded
from tests.cluster.bed.buildah import mounts_below, tree_bytes
from tests.cluster.bed.images import Image, Images, Recipe, build, content, own_recipes, program_recipes
from tests.cluster.bed.standins import mirror
from tests.cluster.image_archive import contents

DEB822 = """Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
"""


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("sources.list.d/debian.sources", DEB822),
        ("sources.list", "deb http://mirror.example/debian bookworm main\n"),
        (
            "sources.list",
            "# deb http://old.example/d bookworm\ndeb [arch=a] http://mirror.example/debian bookworm main",
        ),
    ],
)
def test_the_base_comes_from_the_machines_own_mirror(tmp_path: Path, path: str, text: str) -> None:
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(text)
    assert mirror(tmp_path) == "http://mirror.example/debian"


def test_a_machine_without_a_source_is_told(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://mirror.example/debian trixie main\n")
    with pytest.raises(LookupError, match="bookworm"):
        mirror(tmp_path)


def test_content_follows_names_bytes_and_modes_and_not_compiled_code(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    seen = [content([tmp_path])]
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("x")
    assert content([tmp_path]) == seen[0]
    for change in (
        lambda: (tmp_path / "a.py").chmod(0o755),
        lambda: (tmp_path / "a.py").write_text("2"),
        lambda: (tmp_path / "a.py").rename(tmp_path / "b.py"),
    ):
        change()
        seen.append(content([tmp_path]))
    assert len(set(seen)) == 4


def test_an_image_that_the_cache_has_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.cluster.bed.standins.base_description", lambda: "base")

    def build_it(*_: object) -> None:
        raise AssertionError("built")

    recipe = Recipe("docker.io/x/one:dev", ("v1",), build_it)
    archive = tmp_path / "images" / recipe.archive(content(["base"]))
    archive.parent.mkdir()
    archive.with_suffix(".json").write_text(json.dumps({"unpacked_bytes": 7, "digest": "sha256:0"}))
    (image,) = build([recipe], tmp_path, print)
    assert image == Image("docker.io/x/one", "dev", archive, 7, "sha256:0")
    assert Images((image,)).archives == {"docker.io/x/one:dev": archive}


def test_every_image_has_a_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.cluster.bed.gateway.module_version", lambda module, path: "v1")  # it asks Go
    made_of = {"pause": tmp_path / "pause", "envoy-gateway": tmp_path / "envoy-gateway"}
    names = [one.short for one in [*own_recipes(), *program_recipes(made_of)]]
    assert len(set(names)) == len(names) == 8


def test_sizes_count_hard_links_once(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_bytes(b"12345")
    (tmp_path / "b").hardlink_to(tmp_path / "sub" / "a")
    (tmp_path / "c").symlink_to("sub/a")
    assert tree_bytes(tmp_path) == 5 + len("sub/a")


def test_mounts_are_found_by_folder(tmp_path: Path) -> None:
    assert Path("/proc") in mounts_below(Path("/"))
    assert mounts_below(tmp_path) == []


def test_the_diet_takes_what_its_rules_name_and_nothing_else(tmp_path: Path) -> None:
    site = tmp_path / "site"
    kept = ["numpy/testing/a.py", "ibis/backends/tests/base.py", "numpy-2.dist-info/licenses/LICENSE.txt", "numpy/a.so"]
    gone = ["numpy/_core/tests/test_a.py", "pandas/tests/b.py", "pyarrow/libarrow_flight.so.2500", "x/a.pyi", "x/b.pyx"]
    for name in [*kept, *gone]:
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text("1234")
    assert diet.main([str(site), str(tmp_path / "diet.json")]) == 0
    assert sorted(str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()) == sorted(kept)
    removed = json.loads((tmp_path / "diet.json").read_bytes())
    assert removed == {
        "test suites": 8, "type stubs": 4, "native sources": 4, "arrow flight": 4, "web pages": 0,
    }  # fmt: skip


def test_what_is_loaded_is_what_gets_compiled() -> None:
    assert Path(diet.__file__) in loaded(Path(diet.__file__).parent)
    assert loaded(Path(diet.__file__).parent / "nowhere") == []


def test_an_archive_is_read_with_later_layers_over_earlier_ones(tmp_path: Path) -> None:
    first = tarred({"bin/tool": b"12", "lib/a/one": b"1", "lib/a/two": b"1", "etc/old": b"1"})
    second = tarred({"bin/tool": b"1234", "lib/a/.wh..wh..opq": b"", "lib/a/three": b"123", "etc/.wh.old": b""})
    image = {"config": {"Env": ["HOME=/tmp"], "User": "1:1"}}
    manifest = [{"Config": "c.json", "Layers": ["1.tar", "2.tar"]}]
    parts = {"manifest.json": json.dumps(manifest).encode(), "c.json": json.dumps(image).encode()}
    (tmp_path / "image.tar").write_bytes(tarred({**parts, "1.tar": first, "2.tar": second}))
    found = contents(tmp_path / "image.tar")
    assert found.files == {"bin/tool": 4, "lib/a/three": 3}
    assert (found.size, found.commands(), found.environment) == (7, {"tool"}, {"HOME": "/tmp"})


def tarred(files: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as packed:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    return held.getvalue()
