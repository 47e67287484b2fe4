"""How many distinct visits the units of a rollout are, beside the rollout: units alone do not tell in a replay.

Invariant: written by replays alone, each on top of what earlier ones of the same rollout played.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from serinus.core.rollout.record import Replayed
from serinus.files import DISK
from serinus.rollout.local_store import read_document

_FILE = "replayed.json"


def replayed(rollouts: Path) -> dict[str, Replayed]:
    """By rollout, of those that a replay played through."""
    return {path.parent.name: read_document(path, Replayed) for path in rollouts.glob(f"*/{_FILE}")}


class ReplayedFiles:
    """Of one replay, whose passes have `visits` requests each, numbered over all of them."""

    def __init__(self, rollouts: Path, visits: int) -> None:
        self._folder, self._visits, self._before = rollouts, visits, replayed(rollouts)
        self._numbers: dict[str, set[int]] = defaultdict(set)

    def count(self, rollout: str, number: int) -> None:
        """A request that was sent while the rollout lived."""
        self._numbers[rollout].add(number)

    def write(self) -> None:
        """A replay begins with the first visit, so those of several replays are the same ones, as far as they went."""
        for name, numbers in self._numbers.items():
            before = self._before.get(name, Replayed(visits=0, passes=0))
            visits = max(before.visits, len({one % self._visits for one in numbers}))
            passes = before.passes + len({one // self._visits for one in numbers})
            text = Replayed(visits=visits, passes=passes).model_dump_json(indent=1) + "\n"
            DISK.replace(self._folder / name / _FILE, text)
