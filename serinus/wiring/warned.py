"""Which checks of severity warning did not hold for a version, readable where the registry is away or slow.

Invariant: written when the version is registered, from the same verdicts as its tags, and never changed.
"""

from __future__ import annotations

from pathlib import Path

from serinus.core.ports import ModelVersion
from serinus.files import DISK
from serinus.wiring.project import Project


def remember(project: Project, version: ModelVersion) -> None:
    """Keeps the warnings of a version that was just registered; none is kept as well."""
    DISK.replace(_path(project, version.model, version.version), version.warnings + "\n")


def failed_warnings(project: Project, problem: str, version: int | str) -> str:
    """As a person reads them; empty when all held, or when it was registered from another home or never."""
    path = _path(project, problem, version)
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def _path(project: Project, problem: str, version: int | str) -> Path:
    return project.home / "versions" / problem / f"{version}.warnings"
