"""`serinus rollout start`: which version is wanted, and how it is to be served.

Invariant: writes the service file alone, as the pipeline's last step does.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from serinus.core.errors import NotFound
from serinus.rollout.service import Wanted
from serinus.wiring.adapters import bundle_store, deployer
from serinus.wiring.project import Project
from serinus.wiring.services import wanted
from serinus.wiring.serving import service_of, version_of


def want(project: Project, problem: str, version: str, predictor: str) -> Wanted:
    """What is wanted from now on. Raises `NotFound` for an unknown version or entry point, `UsageError` for a version
    whose bundle is in a store that this profile does not have.
    """
    service = service_of(project, problem)
    number, uri = service.version, service.storage_uri
    if version and version != str(number):
        found, uri = version_of(project, problem, version)
        number = int(found)
    bundle_store(project).address(uri)  # a store that is not known here is told now, not by the arm
    deployer(project).want(problem, number, uri, template(project.root, predictor))
    return wanted(project, problem)


def template(root: Path, predictor: str) -> str:
    """An entry point's path with a hash of its text: a changed entry point is another revision."""
    if not predictor:
        return ""
    path = root / predictor
    if not path.is_file():
        raise NotFound(f"no entry point {predictor}", hint="give the path of a Python file in the project")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return f"{predictor}@{digest}"
