"""The documents of release 0.1 about a service, as this release writes them.

Invariant: a document is written anew only if this release reads it afterwards. What is in the new form already, as
after a conversion that was killed, stays what it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serinus.core.errors import DataError
from serinus.core.names import ServiceRef
from serinus.core.rollout.spec import Revision, RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.wiring.deployer import FILE, SERVICE, written

# The URI of a bundle by its name in a store, where one has it.
Named = Callable[[str], str]
Document = dict[str, Any]


def documents(services: Path, ref: ServiceRef, named: Named) -> Iterator[tuple[Path, str]]:
    """Those of one service by path below `services`. Raises `DataError` for one that cannot be understood."""
    new = _New(ref, named)
    folder = services / ref.name
    kinds = {"first.json": new.revision, "rollouts/*/spec.json": new.spec, "rollouts/*/state.json": new.state}
    for pattern, kind in kinds.items():
        for path in sorted(folder.glob(pattern)):
            yield path.relative_to(services), _rewritten(path, kind)
    own = services / f"{ref.name}.json"
    if own.exists():
        yield Path(ref.name, FILE), _rewritten(own, new.service)


def _rewritten(path: Path, kind: Callable[[Document], str]) -> str:
    try:
        return kind(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise DataError(
            f"{path} cannot be understood",
            cause=str(fault),
            hint="nothing was converted; mend the file, or move it away",
        ) from fault


@dataclass(frozen=True)
class _New:
    """Texts in the new form."""

    ref: ServiceRef
    named: Named

    def revision(self, old: Document) -> str:
        return Revision.model_validate(self._revision(old)).model_dump_json(indent=1) + "\n"

    def spec(self, old: Document) -> str:
        arms = {name: self._revision(old[name]) for name in ("stable", "candidate")}
        return RolloutSpec.model_validate(old | {"service": self.ref} | arms).model_dump_json(indent=1) + "\n"

    def state(self, old: Document) -> str:
        return RolloutState.model_validate(old).model_dump_json(indent=1) + "\n"

    def service(self, old: Document) -> str:
        uris = {name: self.named(old[name]) for name in ("storage_uri", "first_uri")}
        kept = {name: one for name, one in old.items() if name != "since"}
        return written(SERVICE.validate_python(kept | uris | {"ref": self.ref}), old["since"])

    def _revision(self, old: Document) -> Document:
        """Its name stays, though it was made of the URI that the bundle had."""
        if "model" in old:
            return old
        kept = {name: old[name] for name in ("name", "template")}
        model = {"name": self.ref.name, "version": int(old["version"])}
        return kept | {"service": self.ref, "model": model, "storage_uri": self.named(old["storage_uri"])}
