"""`python -m examples.clicks COMMAND`: log, quick, play VERSION..., truth, simulate. See docs/how-to/quick.md."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

from examples.clicks.log import write
from examples.clicks.world import World
from serinus.core.errors import SerinusError

BETTER = "better"
VERSIONS = (BETTER, "same", "slightly_worse", "worse", "halved", "slow", "failing")


def main(arguments: list[str]) -> int:
    """The exit code."""
    parser = ArgumentParser(prog="python -m examples.clicks")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("log", help="write the shop's log anew")
    quick = commands.add_parser("quick", help="what `make quick` does")
    quick.add_argument("--started", type=float, help="when it was called, epoch seconds")
    play = commands.add_parser("play", help="train, serve, roll `better` out, and then these versions")
    play.add_argument("versions", nargs="+", choices=VERSIONS)
    commands.add_parser("truth", help="the true effects, after `make quick`")
    simulate = commands.add_parser("simulate", help="rollouts in one process on a clock of its own, after `make quick`")
    simulate.add_argument("--seeds", type=_seeds, default=20)
    simulate.add_argument("versions", nargs="*", type=_version, metavar="VERSION", default=[BETTER, "worse"])
    asked = parser.parse_args(arguments)
    if asked.command == "log":
        sys.stdout.write(f"{write()}\n")
        return 0
    if asked.command in ("quick", "play"):
        from examples.clicks import quick as quickly

        started = getattr(asked, "started", None) or time.time()
        # The others are made of the second model, so that one is rolled out first.
        played = [BETTER, *(name for name in getattr(asked, "versions", quickly.VERSIONS) if name != BETTER)]
        return quickly.run(played, started)
    try:
        return _truth() if asked.command == "truth" else _simulate(asked.seeds, asked.versions)
    except SerinusError as fault:
        sys.stderr.write("\n".join(part for part in (fault.headline, fault.cause, fault.hint) if part) + "\n")
        return fault.exit_code


def _seeds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text} is not a number of seeds")
    return int(text)


def _version(text: str) -> str:
    # Not `choices`: argparse would look for the whole default among them.
    if text not in VERSIONS:
        raise ArgumentTypeError(f"no version {text}; there are {', '.join(VERSIONS)}")
    return text


def _home() -> None:
    """That of the last `make quick`."""
    home = Path(os.environ.get("SERINUS_HOME", ".serinus")).absolute() / "quick/home"
    os.environ.update(SERINUS_PROJECT=str(Path(__file__).parent), SERINUS_HOME=str(home))


def _truth() -> int:
    from examples.clicks import trained
    from examples.clicks.truth import random_costs, true_effect
    from serinus.wiring.project import open_project

    _home()
    project, world = open_project(), World()
    shop = trained.load(project)
    first, second = (trained.served(shop, one) for one in (trained.first(project), trained.second(project)))
    found = {BETTER: true_effect(world, second, first)}
    for name in VERSIONS[1:]:
        found[name] = true_effect(world, trained.served(shop, trained.second(project), name), second)
    found["(a random order costs)"] = random_costs(world, second)
    for name, effect in found.items():
        sys.stdout.write(f"{name:<24}{100 * effect.estimate:+6.1f} %  ± {100 * effect.error:.1f}\n")
    return 0


def _simulate(seeds: int, versions: list[str]) -> int:
    """1 when a verdict disagrees with the truth."""
    from examples.clicks import trained
    from examples.clicks.in_process import rolled_out
    from examples.clicks.quick import agrees
    from serinus.wiring.project import open_project

    _home()
    project = open_project()
    shop, agreed = trained.load(project), 0
    for seed in range(seeds):
        for name in versions:
            stable = trained.first(project) if name == BETTER else trained.second(project)
            candidate = trained.second(project, "" if name == BETTER else name)
            with tempfile.TemporaryDirectory() as folder:
                state, visits = rolled_out(shop, World(), Path(folder), stable, candidate, seed=seed)
            agreed += agrees(name, state.phase)
            told = f"seed {seed:>3}  {name:<16}{state.phase:<12}{state.decided_by or '-':<16}{visits:>7} visits\n"
            sys.stdout.write(told)
            sys.stdout.flush()
    sys.stdout.write(f"{agreed} of {seeds * len(versions)} verdicts agree with the truth\n")
    return int(agreed < seeds * len(versions))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite end is that of Ctrl-C
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; everything that was started is stopped\n")
        sys.exit(130)
