"""`forked_run.py PROBLEM NAME REGISTER [SERVICE] [-- PROBLEM ...]`: pipelines of the environment's project in turn.

Each is a fork of this process, as each of its steps is one: imports are paid for once.
"""

import os
import sys
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from examples.clicks.forked import imported, train
from serinus.wiring.project import open_project


def ended(problem: str, name: str, register: str, service: str = "") -> int:
    """The exit code of one run."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        train(open_project(), problem, name, register, lambda *_: None, service=service)
        code = 0
    except BaseException:  # noqa: BLE001 - the edge of a process, which must not go on as its parent
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    imported()
    runs = [list(run) for between, run in groupby(sys.argv[1:], "--".__eq__) if not between]
    sys.exit(next((code for run in runs if (code := ended(*run))), 0))
