"""`forked_run.py PROBLEM NAME REGISTER`: the pipeline of the environment's project, its imports paid for once."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from examples.clicks.forked import train
from serinus.wiring.project import open_project

if __name__ == "__main__":
    train(open_project(), *sys.argv[1:4], lambda *_: None)
