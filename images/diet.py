"""Removes from an environment what its processes never open: `python images/diet.py SITE_PACKAGES REPORT`.

Invariant: only test suites, sources of compiled code, pages and one library that nothing loads are removed, never a
module that ours import, and every licence stays. The report (JSON: bytes removed by rule) stays in the image beside the
environment; tests/cluster/test_image_pods.py and test_first_service.py show that what is left starts and answers.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Rule:
    """What goes, as glob patterns below site-packages, and why that is safe."""

    name: str
    why: str
    patterns: tuple[str, ...]


# Named, not every folder called `tests`: some packages (ibis) import theirs.
_TESTED = ("dask", "lightgbm", "matplotlib", "numpy", "pandas", "psutil", "pyarrow", "scipy", "sklearn")
_SOURCES = ("a", "c", "cc", "cpp", "h", "hpp", "pxd", "pxi", "pyx")

RULES = (
    Rule("test suites", "the packages' own tests", tuple(f"{package}/**/tests" for package in _TESTED)),
    Rule("type stubs", "read by type checkers", ("**/*.pyi",)),
    Rule("native sources", "for compiling against a package", tuple(f"**/*.{suffix}" for suffix in _SOURCES)),
    Rule("arrow flight", "an RPC system; loaded by pyarrow.flight alone", tuple(f"pyarrow/{n}*" for n in (
        "libarrow_flight", "libarrow_python_flight", "_flight", "include", "src"))),
    Rule("web pages", "of MLflow's and Feast's own servers, which run elsewhere", ("mlflow/server/js", "feast/ui")),
)  # fmt: skip


def main(arguments: list[str]) -> int:
    """Applies all rules, prints and writes what each removed."""
    site, report = map(Path, arguments)
    removed = {rule.name: apply(rule, site) for rule in RULES}
    report.write_text(json.dumps(removed) + "\n", encoding="utf-8")
    for name, size in removed.items():
        sys.stdout.write(f"diet: {name:16s} {size / 1e6:7.1f} MB\n")
    return 0


def apply(rule: Rule, site: Path) -> int:
    """Bytes that `rule` removed from `site`."""
    size = 0
    for path in list(_matches(rule, site)):
        if path.is_dir():
            size += sum(one.lstat().st_size for one in path.rglob("*") if not one.is_dir())
            shutil.rmtree(path)
        elif path.exists():  # not gone with its folder
            size += path.lstat().st_size
            path.unlink()
    return size


def _matches(rule: Rule, site: Path) -> Iterator[Path]:
    for pattern in rule.patterns:
        yield from site.glob(pattern)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
