"""Faults of a problem's own code: told by file and line of that code, not by the traceback of ours.

Invariant: the line named is the last one of the problem's files that was being run; a fault that none of them had a
part in is not the problem's.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from serinus.core.errors import ProblemCodeError, SerinusError

MARKER = "serinus.toml"


def place_in(fault: BaseException, folders: Sequence[Path]) -> tuple[Path, int] | None:
    """The last file below `folders`, and its line, that a fault passed through; None when it did not."""
    whole = [(Path(frame.filename), frame.lineno or 0) for frame in traceback.extract_tb(fault.__traceback__)]
    if isinstance(fault, SyntaxError) and fault.filename:  # was never run, so it has no frame
        whole.append((Path(fault.filename), fault.lineno or 0))
    own = [(path, line) for path, line in whole if any(path.resolve().is_relative_to(one) for one in folders)]
    return own[-1] if own else None


@contextmanager
def telling(folders: Sequence[Path]) -> Iterator[None]:
    """Raises `ProblemCodeError` for what the code below `folders` raises; all else passes through."""
    try:
        yield
    except Exception as fault:
        told = problem_fault(fault, folders)
        if told is None:
            raise
        raise told from fault


def problem_fault(fault: Exception, folders: Sequence[Path]) -> ProblemCodeError | None:
    """The fault as one of the problem's code below `folders`; None when it is another's.

    A fault that we raised ourselves says better what is wrong.
    """
    place = None if isinstance(fault, SerinusError) else place_in(fault, folders)
    if place is None:
        return None
    path, line = place
    shown = next((path.relative_to(above) for above in path.parents if (above / MARKER).is_file()), path)
    return ProblemCodeError(
        f"{shown}:{line}: {type(fault).__name__}: {_first_line(fault)}",
        cause=_source(path, line),
        hint="this is the problem's own code",
    )


def _first_line(fault: Exception) -> str:
    text = fault.msg if isinstance(fault, SyntaxError) else str(fault)
    return next(iter(text.splitlines()), "")


def _source(path: Path, line: int) -> str:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    return f"{line} | {lines[line - 1].strip()}" if 0 < line <= len(lines) else ""
