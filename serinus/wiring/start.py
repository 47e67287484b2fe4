"""`python -m serinus.wiring.start MODULE ARGUMENT...`: the main of a module that takes seconds to import.

Invariant: whoever is impatient meets one word and exit code 130, not the traceback of an import.
"""

from __future__ import annotations

import sys
from importlib import import_module

from serinus.wiring.interrupts import end_at_once


def main() -> int:
    """The exit code of that main."""
    end_at_once()
    module, *arguments = sys.argv[1:]
    code: int = import_module(module).main(arguments)
    return code


if __name__ == "__main__":
    sys.exit(main())
