"""Compiles the pipelines of a project to pipelines/compiled/: `python -m pipelines.compile [--check]`.

Invariant: the compiled file is a function of the card, the components and the SDK; caching is off, because a switch at
submit time does not reach tasks inside an exit handler.
"""

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kfp import compiler

from pipelines.training import training_pipeline
from serinus.core.card import Problem
from serinus.wiring.project import open_project

FOLDER = Path(__file__).parent / "compiled"


def compile_training(card: Problem, path: Path) -> Path:
    """Writes the package of a card's training pipeline."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # For each setting of a task KFP looks up the source of every caller: a thread of its own has few of them.
    with ThreadPoolExecutor(1) as alone:
        alone.submit(lambda: compiler.Compiler().compile(training_pipeline(card), str(path))).result()
    return path


def package_name(problem: str) -> str:
    """File name of a problem's package."""
    return f"{problem.replace('_', '-')}-training.yaml"


def main(arguments: list[str]) -> int:
    """Writes all packages, or with --check compares them; 1 when one is stale."""
    project, stale = open_project(), []
    for name in project.problem_names():
        path = FOLDER / package_name(name)
        card = project.problem(name).card
        if "--check" not in arguments:
            compile_training(card, path)
            continue
        with tempfile.TemporaryDirectory() as folder:
            fresh = compile_training(card, Path(folder) / path.name)
            if not path.exists() or fresh.read_bytes() != path.read_bytes():
                stale.append(path.name)
    if stale:
        sys.stderr.write(f"stale: {', '.join(stale)}; run `python -m pipelines.compile`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
