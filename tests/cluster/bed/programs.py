"""Builds the programs of the bed from Go modules: one module a program, whose go.mod and go.sum pin all of it.

Invariant: a binary is named by the content of what it was made of, so a change of a pin makes another one and an
unchanged one is never made again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.bed.places import HERE, outdated

MODULES = HERE / "modules"
# Without symbol tables: half of the size, and of the linker's time.
_STRIPPED = "-s -w"
_FLAGS = ("-trimpath", "-buildvcs=false", "-mod=readonly")
# The compiler collects its garbage when it is four times what lives, not once: a fifth of its time less.
_COLLECTED_AT = "400"
_DIGEST_BYTES = 6

# Charts, CRDs and manifests are read from the sources of these modules, each as a folder of modules/ pins it.
KSERVE = ("kserve", "github.com/kserve/kserve")
ENVOY_GATEWAY = ("envoy-gateway", "github.com/envoyproxy/gateway")
GATEWAY_API = ("envoy-gateway", "sigs.k8s.io/gateway-api")
LOCAL_PATH = ("local-path-provisioner", "github.com/rancher/local-path-provisioner")
SOURCES = (KSERVE, ENVOY_GATEWAY, GATEWAY_API, LOCAL_PATH)


@dataclass(frozen=True)
class Program:
    """A binary `name` from `package` of the module in modules/`module`."""

    name: str
    module: str
    package: str
    version_from: str = ""

    @property
    def folder(self) -> Path:
        """Of the go.mod."""
        return MODULES / self.module


def _kubernetes(name: str) -> Program:
    return Program(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", "k8s.io/kubernetes")


# In the order of building: what depends on most of Kubernetes first, so that the others find it compiled.
PROGRAMS = (
    _kubernetes("kube-apiserver"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kubelet"),
    _kubernetes("kube-scheduler"),
    _kubernetes("kube-proxy"),
    _kubernetes("kubectl"),
    Program("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
    Program("kserve", "kserve", "github.com/kserve/kserve/cmd/manager"),
    Program("envoy-gateway", "envoy-gateway", "github.com/envoyproxy/gateway/cmd/envoy-gateway"),
    Program("coredns", "coredns", "github.com/coredns/coredns"),
    Program("helm", "helm", "helm.sh/helm/v3/cmd/helm"),
    Program("local-path-provisioner", "local-path-provisioner", "github.com/rancher/local-path-provisioner"),
    Program("pause", "pause", "serinus.dev/bed/pause"),
    Program("actionlint", "actionlint", "github.com/rhysd/actionlint/cmd/actionlint"),
)


def build_programs(cache: Path, say: Callable[[str], None]) -> dict[str, Path]:
    """Paths of all binaries by name; builds those that `cache` does not have.

    Go's own cache has `SOURCES` then, too: the keeper, which reads them, has no way out to fetch them.
    """
    for stale in cache.glob("tmp*"):  # of a build that was killed
        shutil.rmtree(stale)
    found = {program.name: build_program(program, cache, say) for program in PROGRAMS}
    for module, path in SOURCES:
        module_folder(module, path)
    return found


def build_program(program: Program, cache: Path, say: Callable[[str], None]) -> Path:
    """The path of one binary, built if `cache` does not have it."""
    binary = cache / f"{program.name}-{_content(program)}" / program.name
    if not binary.exists():
        began = time.monotonic()
        _build(program, binary)
        say(f"built {program.name} in {time.monotonic() - began:.0f} s")
    return binary


def module_folder(module: str, path: str) -> Path:
    """Where the sources of module `path`, which modules/`module` needs, are: charts and CRDs are read from there."""
    where = _go("list", "-m", "-f", "{{.Dir}}", path, folder=MODULES / module).strip()
    if not where:
        _go("mod", "download", path, folder=MODULES / module)
        where = _go("list", "-m", "-f", "{{.Dir}}", path, folder=MODULES / module).strip()
    return Path(where)


def module_version(module: str, path: str) -> str:
    """The pinned version of module `path`."""
    return _go("list", "-m", "-f", "{{.Version}}", path, folder=MODULES / module).strip()


def _build(program: Program, binary: Path) -> None:
    binary.parent.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=binary.parent.parent) as aside:
        made = Path(aside) / "out" / program.name
        made.parent.mkdir()
        _go("build", *_FLAGS, "-ldflags", _linked(program), "-o", str(made), program.package, folder=program.folder)
        shutil.rmtree(binary.parent, ignore_errors=True)
        made.parent.rename(binary.parent)
    for old in outdated(binary.parent.parent.glob(f"{program.name}-{'?' * 2 * _DIGEST_BYTES}")):
        shutil.rmtree(old)


def _linked(program: Program) -> str:
    if not program.version_from:
        return _STRIPPED
    # Kubernetes tells its version from what its linker was told.
    version = module_version(program.module, program.version_from)
    major, minor, _ = version.removeprefix("v").split(".", 2)
    told = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    return " ".join([_STRIPPED, *(f"-X k8s.io/component-base/version.{key}={value}" for key, value in told.items())])


def _go(*arguments: str, folder: Path) -> str:
    done = subprocess.run(
        ("go", *arguments),
        cwd=folder,
        env={"GOGC": _COLLECTED_AT} | os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"go {' '.join(arguments[:2])} in {folder.name}: {done.stderr[-2000:]}")
    return done.stdout


def _content(program: Program) -> str:
    compiler = _go("env", "GOVERSION", folder=program.folder)
    told = (*_FLAGS, _STRIPPED, program.package, program.version_from, compiler)
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in (*_sources(program.folder), *told):
        digest.update(part.encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _sources(folder: Path) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        yield path.name
        yield path.read_text(encoding="utf-8")
