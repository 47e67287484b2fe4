"""Version `slow`: each answer takes a moment longer. It is started as `serinus.wiring.serve` is."""

import sys

from alterations import alterations

from serinus.wiring.serve import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], alterations()["slow"]))
