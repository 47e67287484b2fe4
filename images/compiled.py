"""Compiles the Python files that a process will load: `python images/compiled.py FOLDER [MODULE...]`.

Invariant: what is compiled is what importing the modules loaded (everything below the folder without any), valid by
content and not by time: a read-only root cannot keep what a process compiles at its start, and unused bytecode of
everything would be a sixth of the predictor's image.
"""

from __future__ import annotations

import compileall
import importlib
import py_compile
import sys
from pathlib import Path

_MODE = py_compile.PycInvalidationMode.UNCHECKED_HASH


def main(arguments: list[str]) -> int:
    """0 when all could be imported and compiled."""
    folder, *modules = arguments
    sys.argv = sys.argv[:1]  # KServe reads the command line when it is imported
    if not modules:
        return int(not compileall.compile_dir(folder, quiet=1, invalidation_mode=_MODE))
    for name in modules:
        importlib.import_module(name)
    for path in loaded(Path(folder)):
        py_compile.compile(str(path), invalidation_mode=_MODE, doraise=True)
    return 0


def loaded(folder: Path) -> list[Path]:
    """Source files below `folder` of the modules that are imported by now."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    paths = {Path(file) for file in files if file is not None and file.endswith(".py")}
    return sorted(path for path in paths if path.is_relative_to(folder))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
