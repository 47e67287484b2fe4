"""`serinus model restore`: the bundle of a version that was deleted in the registry, registered again.

Invariant: the bundle is that of the revision that a service knows, unchanged, and so are its failed warnings; the
number is a new one, for a registry gives none twice, and what serves keeps its own.
"""

from __future__ import annotations

from serinus.core.bundles import content_of
from serinus.core.errors import Conflict, NotFound
from serinus.core.names import ModelRef
from serinus.core.ports import ModelVersion
from serinus.model.bundle import content_hash, read_manifest
from serinus.wiring.adapters import bundle_store, registry
from serinus.wiring.project import Project
from serinus.wiring.services import known_revision
from serinus.wiring.warned import failed_warnings, remember


def restore(project: Project, problem: str, version: str) -> ModelVersion:
    """The version that it has become. Raises `NotFound` for a version that no service here knew, or whose bundle is
    gone, and `Conflict` when the registry has it.
    """
    revision = known_revision(project, ModelRef(problem, int(version))) if version.isdecimal() else None
    if revision is None:
        hint = f"`serinus model list {problem}`"
        raise NotFound(f"the services of {problem} never had a version {version}", hint=hint)
    models = registry(project)
    content = content_of(revision.storage_uri)
    known = next((one for one in models.versions(problem) if content_of(one.storage_uri) == content), None)
    if known is not None:
        raise Conflict(f"the bundle of version {version} is registered, as version {known.version}")
    stored = bundle_store(project)
    uri = stored.named(revision.storage_uri)
    folder = stored.get(uri)
    manifest = read_manifest(folder)
    tags = {
        "serinus.candidate": manifest.candidate,
        "serinus.bundle_hash": content_hash(folder),
        "serinus.pipeline_run": manifest.lineage.pipeline_run,
        "serinus.snapshot_hash": manifest.lineage.snapshot_hash,
        "serinus.training_set_hash": manifest.lineage.training_set_hash,
        "serinus.service_hash": manifest.features.service_hash,
        "serinus.restored_from": version,
    }
    if warned := failed_warnings(project, problem, version):
        tags["serinus.failed_warnings"] = warned
    again = models.register(problem, run_id=manifest.lineage.mlflow_run, storage_uri=uri, tags=tags)
    remember(project, again)
    return again
