"""What the parts of one cluster share: its folders, its programs, its authority, and a kubectl.

Invariant: parts know each other only by what is here, and by the names in their `needs`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.bed.certificates import Authority
from tests.cluster.bed.parts import waiting
from tests.cluster.bed.places import Places
from tests.cluster.bed.probes import condition

# Beside the CRDs of their projects; the policy belongs to the gateway's chart.
_NOT_CRDS = ("kustomization.yaml", "gateway.networking.k8s.io_vap_safeupgrades.yaml")


@dataclass(frozen=True)
class Site:
    """One cluster that is being started."""

    places: Places
    programs: Mapping[str, Path]
    authority: Authority

    def program(self, name: str) -> str:
        """The path of a binary."""
        return str(self.programs[name])

    @property
    def kubectl(self) -> tuple[str, ...]:
        """As administrator."""
        return (self.program("kubectl"), "--kubeconfig", str(self.places.kubeconfig))

    def identity(self, user: str, groups: Sequence[str] = ()) -> str:
        """The path of a kubeconfig for a component, made when it is first asked for."""
        path = self.places.pki / f"{user.replace(':', '-')}.kubeconfig"
        return str(path if path.exists() else self.authority.kubeconfig(path, user, groups))

    def account(self, namespace: str, name: str) -> Path:
        """The path of a kubeconfig for a service account; `sign_in` writes it."""
        return self.places.pki / f"{namespace}-{name}.kubeconfig"

    def sign_in(self, namespace: str, name: str) -> None:
        """Gets the service account, which exists, a token of its own."""
        token = run(*self.kubectl, "create", "token", name, "--namespace", namespace, "--duration=720h").strip()
        self.authority.kubeconfig_of(self.account(namespace, name), {"token": token})

    def apply(self, documents: Sequence[Any], *, namespace: str = "") -> None:
        """Server-side: KServe's CRDs are too large for the annotation of the other kind. Raises `RuntimeError`."""
        text = "\n---\n".join(json.dumps(one) for one in documents)
        where = ("--namespace", namespace) if namespace else ()
        run(*self.kubectl, "apply", "--server-side", "--force-conflicts", *where, "-f", "-", feed=text)


def crds(site: Site, *folders: Path) -> None:
    """Applies the CRDs in some folders, and waits until they are served."""
    files = [one for folder in folders for one in sorted(folder.glob("*.yaml")) if one.name not in _NOT_CRDS]
    named = [part for one in files for part in ("-f", str(one))]
    made = run(*site.kubectl, "apply", "--server-side", "--force-conflicts", "-o", "name", *named).split()
    # Not by `kubectl wait`, which takes a status without conditions, as KServe's files have it, for an error.
    for one in made:
        waiting(one, condition(site.kubectl, one, "Established"), ()).run()


def documents(*files: Path) -> list[Any]:
    """All YAML documents of some files."""
    return [one for file in files for one in yaml.load_all(file.read_bytes(), yaml.CSafeLoader) if one]


def write(path: Path, document: object) -> str:
    """Writes a YAML document; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return str(path)


def run(*command: str, feed: str | None = None, environment: Mapping[str, str] | None = None) -> str:
    """The output of a command. Raises `RuntimeError` with what it said when it fails."""
    done = subprocess.run(command, input=feed, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise RuntimeError(f"{Path(command[0]).name} {' '.join(command[1:4])} … failed: {said}")
    return done.stdout
