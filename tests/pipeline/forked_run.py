"""`forked_run.py PROBLEM NAME REGISTER [SERVICE]`: the pipeline of the environment's project, imports paid for once."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from examples.clicks.forked import train
from serinus.wiring.project import open_project

if __name__ == "__main__":
    problem, name, register, *service = sys.argv[1:]
    train(open_project(), problem, name, register, lambda *_: None, service="".join(service))
