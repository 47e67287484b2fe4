"""Measures the shape of the code against the house numbers: `python tests/shape.py PATH...`; 1 when one is over.

Invariant: the limits here are those of docs/concepts/architecture.md; lengths leave out a function's docstring.
"""

from __future__ import annotations

import ast
import statistics
import sys
from pathlib import Path

LIMITS = {
    "function_median": 9,
    "function_p99": 60,
    "function_max": 80,
    "file_p90": 300,
    "file_max": 450,
    "untyped_functions": 0,
    "modules_without_docstring": 0,
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def main(roots: list[str]) -> int:
    """Prints every figure beside its limit."""
    figures = measure([path for root in roots for path in sorted(Path(root).rglob("*.py"))])
    for name, limit in LIMITS.items():
        sys.stdout.write(f"{'OVER' if figures[name] > limit else '  ok'} {name} {figures[name]:g} (limit {limit})\n")
    return int(any(figures[name] > limit for name, limit in LIMITS.items()))


def measure(paths: list[Path]) -> dict[str, float]:
    """The figures of a set of files."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    files = [path.read_text(encoding="utf-8").count("\n") + 1 for path in paths]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, Function)]
    lengths = [_length(node) for node in functions]
    return {
        "function_median": statistics.median(lengths),
        "function_p99": _quantile(lengths, 0.99),
        "function_max": max(lengths),
        "file_p90": _quantile(files, 0.9),
        "file_max": max(files),
        "untyped_functions": sum(_untyped(node) for node in functions),
        "modules_without_docstring": sum(bool(tree.body) and ast.get_docstring(tree) is None for tree in trees),
    }


def _quantile(values: list[int], share: float) -> int:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _length(node: Function) -> int:
    body = node.body[1:] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1


def _untyped(node: Function) -> bool:
    arguments = [
        a for a in node.args.posonlyargs + node.args.args + node.args.kwonlyargs if a.arg not in ("self", "cls")
    ]
    return node.returns is None or any(a.annotation is None for a in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
