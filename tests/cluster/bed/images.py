"""The images that pods of the bed use: Serinus's own by its Dockerfile, and stand-ins for those of others.

Invariant: an archive is named by the content of all that it was made of, base included; one that exists is right and is
not made again. `python -m tests.cluster.bed.images` makes those that need no program of the bed and prints their sizes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.bed import standins
from tests.cluster.bed.buildah import Buildah, BuildFailed
from tests.cluster.bed.gateway import gateway_image
from tests.cluster.bed.node import PAUSE_IMAGE
from tests.cluster.bed.places import HERE, REPOSITORY, outdated, places

Say = Callable[[str], None]
_ENVOY = "docker.io/envoyproxy/envoy:distroless-v1.38.3"
_HELPER = "docker.io/library/busybox:1.36"
_REDIS = "docker.io/library/redis:7"
_BUILT_WITH = ("Dockerfile", ".dockerignore", "images", "serinus")
_PROJECT = ("components", "feature_repo", "pipelines", "problems", "serinus.toml")
_TARGETS = {"predictor": (), "operator": (), "pipeline": _PROJECT}


@dataclass(frozen=True)
class Image:
    """An image in a Docker archive; `unpacked_bytes` as `buildah.tree_bytes` counts."""

    name: str
    tag: str
    archive: Path
    unpacked_bytes: int
    digest: str

    @property
    def reference(self) -> str:
        """As pods name it."""
        return f"{self.name}:{self.tag}"


@dataclass(frozen=True)
class Images:
    """All of them, and the two whose names others must be told."""

    all: tuple[Image, ...]
    envoy: str = _ENVOY
    helper: str = _HELPER

    @property
    def archives(self) -> dict[str, Path]:
        """By the names that pods use."""
        return {image.reference: image.archive for image in self.all}


@dataclass(frozen=True)
class Recipe:
    """How to make one image: `build` does it; `made_of` is all that decides what comes out, the base aside."""

    reference: str
    made_of: tuple[str | Path, ...]
    build: Callable[[Buildah, str, str], object]

    @property
    def short(self) -> str:
        """For file names."""
        return self.reference.split("/")[-1].split(":")[0]

    def archive(self, base_key: str) -> str:
        """The file's name, by content."""
        return f"{self.short}-{content([base_key, self.reference, *self.made_of])}.tar"


def own_recipes() -> list[Recipe]:
    """Those of images that need none of the bed's programs."""
    return [
        *(_target(name, extra) for name, extra in _TARGETS.items()),
        _stand_in(_REDIS, standins.REDIS),
        _stand_in(_HELPER, standins.SHELL),
        _binary(_ENVOY, "envoy", [HERE / "requirements-envoy.lock"], standins.envoy_binary),
    ]


def program_recipes(programs: Mapping[str, Path]) -> list[Recipe]:
    """Those of images that are made of programs, by the paths of all."""
    return [
        _program(gateway_image(), "envoy-gateway", programs["envoy-gateway"]),
        _program(PAUSE_IMAGE, "pause", programs["pause"]),
    ]


def build(wanted: Iterable[Recipe], cache: Path, say: Say) -> list[Image]:
    """The images of `wanted`, from `cache` or made there. Raises `BuildFailed`, also when sources change meanwhile."""
    folder = cache / "images"
    folder.mkdir(parents=True, exist_ok=True)
    base_key = content([standins.base_description()])
    archives = {folder / recipe.archive(base_key): recipe for recipe in wanted}
    if not all(_facts(archive).exists() for archive in archives):
        with _alone(folder), Buildah(folder / "storage") as buildah:
            for archive, recipe in archives.items():
                if not _facts(archive).exists():
                    began = time.monotonic()
                    _make(buildah, recipe, base_key, archive, say)
                    say(f"built {recipe.reference} in {time.monotonic() - began:.0f} s")
            buildah.forget()
    return [_read(archive, recipe.reference) for archive, recipe in archives.items()]


def content(parts: Iterable[str | Path]) -> str:
    """A short name of all that is in texts, files and folders."""
    digest = hashlib.blake2b(digest_size=6)
    for part in parts:
        for text in [part.encode()] if isinstance(part, str) else _contents(part):
            digest.update(len(text).to_bytes(8))
            digest.update(text)
    return digest.hexdigest()


def main() -> int:
    """Prints a line an image."""
    began = time.monotonic()
    images = build(own_recipes(), places().cache, _say)
    for image in images:
        _say(f"{image.reference:52s} {image.unpacked_bytes / 1e6:7.1f} MB unpacked  {image.archive.name}")
    _say(f"{len(images)} images after {time.monotonic() - began:.1f} s")
    return 0


def _make(buildah: Buildah, recipe: Recipe, base_key: str, archive: Path, say: Say) -> None:
    recipe.build(buildah, recipe.reference, _base(buildah, base_key, say))
    if recipe.archive(base_key) != archive.name:
        raise BuildFailed(f"the sources of {recipe.reference} changed while it was built: build it again")
    facts = {
        "unpacked_bytes": buildah.unpacked_bytes(recipe.reference),
        "digest": buildah.push(recipe.reference, archive),
    }
    # Its facts come last: an archive without them does not count.
    _facts(archive).write_text(json.dumps(facts), encoding="utf-8")
    for old in outdated(archive.parent.glob(f"{recipe.short}-{'?' * len(content([]))}.tar")):
        _facts(old).unlink(missing_ok=True)
        old.unlink()


def _read(archive: Path, reference: str) -> Image:
    name, tag = reference.rsplit(":", 1)
    return Image(name, tag, archive, **json.loads(_facts(archive).read_bytes()))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two that build would unmount each other's layers."""
    with (folder / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _facts(archive: Path) -> Path:
    return archive.with_suffix(".json")


def _base(buildah: Buildah, key: str, say: Say) -> str:
    reference = f"localhost/bed/python:{key}"
    if not buildah.has(reference):
        began = time.monotonic()
        standins.build_base(buildah, reference)
        say(f"built the base in {time.monotonic() - began:.0f} s")
    return reference


def _target(name: str, extra: tuple[str, ...]) -> Recipe:
    parts = (*_BUILT_WITH, f"requirements/{name}.lock", *extra)

    def make(buildah: Buildah, reference: str, base: str) -> None:
        buildah.build(reference, REPOSITORY / "Dockerfile", REPOSITORY, target=name, BASE=base)

    return Recipe(f"docker.io/serinus/{name}:dev", tuple(REPOSITORY / part for part in parts), make)


def _stand_in(reference: str, text: str, made_of: Iterable[Path] = (), fill: Callable[[Path], object] = bool) -> Recipe:
    def make(buildah: Buildah, reference: str, base: str) -> None:
        standins.build_stand_in(buildah, reference, text, fill, BASE=base)

    return Recipe(reference, (text, *made_of), make)


def _binary(reference: str, name: str, made_of: Iterable[Path], fill: Callable[[Path], object]) -> Recipe:
    text = standins.BINARY.replace("${NAME}", name).replace("ARG NAME\n", "")
    return _stand_in(reference, f'{text}ENTRYPOINT ["/usr/local/bin/{name}"]\n', made_of, fill)


def _program(reference: str, name: str, path: Path) -> Recipe:
    def fill(context: Path) -> None:
        shutil.copy2(path, context / name)

    if name == "pause":
        return _stand_in(reference, standins.SCRATCH, [path], fill)
    return _binary(reference, name, [path], fill)


def _contents(path: Path) -> Iterator[bytes]:
    """Names, modes and bytes of the files of a path, compiled code aside."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    for file in files:
        if file.is_file() and "__pycache__" not in file.parts:
            yield str(file.relative_to(path)).encode()
            yield bytes([bool(file.stat().st_mode & 0o100)])
            yield file.read_bytes()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
