"""`python -m serinus.model.check FOLDER`: loads a bundle and prints how far its golden rows are from what it gives now.

Invariant: a process of its own, so nothing that another one has in memory can hide a file that does not load.
"""

from __future__ import annotations

import sys
from pathlib import Path

from serinus.model.bundle import read_bundle

if __name__ == "__main__":
    sys.stdout.write(f"{read_bundle(Path(sys.argv[1])).parity()!r}\n")
