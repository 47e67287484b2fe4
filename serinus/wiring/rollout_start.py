"""`serinus rollout start`: which version is wanted, and how it is to be served.

Invariant: writes the service file alone, as the pipeline's last step does.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from serinus.core.errors import NotFound, UsageError
from serinus.core.names import ServiceRef
from serinus.wiring.adapters import bundle_store, deployer
from serinus.wiring.project import Project
from serinus.wiring.services import Asked, asked, require_free, service_of
from serinus.wiring.serving import version_of


def want(project: Project, service: ServiceRef, version: str, predictor: str, problem: str = "") -> Asked:
    """What is wanted from now on. With a problem the service is made when there is none.

    Raises `NotFound` for an unknown service, version or entry point, `UsageError` for a new service without a version
    and for a version whose bundle is in a store that this profile does not have, and `Conflict` for a service that is
    another problem's.
    """
    deployed = deployer(project)
    known = None if problem and deployed.service(service) is None else service_of(project, service)
    if problem:
        require_free(project, service, problem)
    if known is not None and version in ("", str(known.version)):
        model, uri = known.model, known.storage_uri
    elif version:
        model, uri = version_of(project, known.problem if known else problem, version)
    else:
        raise UsageError(
            f"{service.shown} is a new service, and no version of {problem} was named",
            hint=f"--version N, or an alias as challenger; `serinus model list {problem}` shows them",
        )
    bundle_store(project).address(uri)  # a store that is not known here is told now, not by the arm
    deployed.want(service, model, uri, template(project.root, predictor))
    return asked(project, service)


def template(root: Path, predictor: str) -> str:
    """An entry point's path with a hash of its text: a changed entry point is another revision."""
    if not predictor:
        return ""
    path = root / predictor
    if not path.is_file():
        raise NotFound(f"no entry point {predictor}", hint="give the path of a Python file in the project")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return f"{predictor}@{digest}"
