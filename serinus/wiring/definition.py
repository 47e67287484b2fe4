"""What defines a problem, as one line: a hash each of its card, contract, code and feature declarations.

Invariant: the same line on two machines means that the same rules judge there. Data is no part of it: which rows a run
saw is the snapshot's hash.
"""

from __future__ import annotations

import hashlib

from serinus.core.errors import Conflict
from serinus.wiring.project import LoadedProblem, Project

_LENGTH = 12
_SUFFIXES = {".yaml", ".yml", ".py"}


def definition(project: Project, problem: LoadedProblem) -> str:
    """`name:hash` of each file, in order, separated by blanks."""
    found = {
        f"{problem.card.name}/{path.relative_to(problem.folder).as_posix()}": path
        for path in problem.folder.rglob("*")
        if path.suffix in _SUFFIXES and not _made(path.relative_to(problem.folder).parts)
    }
    declarations = project.declarations(problem.card.name)
    found[f"feature_repo/{declarations.name}"] = declarations
    hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items() if path.is_file()}
    return " ".join(f"{name}:{hashes[name][:_LENGTH]}" for name in sorted(hashes))


def require_same(project: Project, problem: LoadedProblem, submitted: str) -> None:
    """Raises `Conflict` when what was submitted is defined by other files than those here; empty means any."""
    here = definition(project, problem)
    if submitted and submitted != here:
        names = sorted({one.rpartition(":")[0] for one in set(submitted.split()) ^ set(here.split())})
        raise Conflict(
            f"the image holds another {problem.card.name} than was submitted",
            cause=f"different: {', '.join(names)}",
            hint="build the image anew from the project as it is, or submit from the one that the image was built from",
        )


def _made(parts: tuple[str, ...]) -> bool:
    """What tools leave beside the files that people write."""
    return any(part.startswith((".", "__pycache__")) for part in parts)
