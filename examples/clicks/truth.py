"""How many clicks a version really costs or gains, computed from the world: no statistics of a rollout is in it.

Both versions order the pages of the same visits, and the world says how often each order is clicked on average.
Invariant: clicks are not drawn, so what is left to chance is which visits were taken; the standard error says how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from examples.clicks.versions.alterations import Alter
from examples.clicks.world import PLACES, Visit, World, item_name
from serinus.core.events import BucketCheck
from serinus.features.batch import Batch
from serinus.features.inputs import INPUTS
from serinus.features.online import OnlineReader
from serinus.features.transforms import Matrix, matrix
from serinus.model.bundle import Bundle
from serinus.serving.plane import unaltered
from serinus.serving.stages import Admitted, Stages

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Effect:
    """Relative to the stable version, with its standard error."""

    estimate: float
    error: float


@dataclass(frozen=True)
class Served:
    """A version as it is served: bundle, online store, and what is wrong with it."""

    bundle: Bundle
    reader: OnlineReader
    alter: Alter = unaltered


def true_effect(world: World, candidate: Served, stable: Served, visits: int = 4_000) -> Effect:
    """On the click-through rate: every page has as many places, so clicks stand for it."""
    asked = list(world.visits(visits))
    return _ratio(expected_clicks(world, candidate, asked), expected_clicks(world, stable, asked))


def random_costs(world: World, stable: Served, visits: int = 4_000) -> Effect:
    """The share of clicks that a random order loses: the mean over all orders needs no draw."""
    asked = list(world.visits(visits))
    by_chance = np.array([world.expected_at_random(visit) for visit in asked])
    found = _ratio(by_chance, expected_clicks(world, stable, asked))
    return Effect(-found.estimate, found.error)


def expected_clicks(world: World, served: Served, visits: Sequence[Visit]) -> Floats:
    """Of each visit's page; none where the version fails to look the visitor up, and the page stays empty."""
    right = Stages.of(served.bundle, served.reader)
    stages = served.alter(right)
    pages = _rows(served, visits).reshape(len(visits), PLACES, -1)
    orders = (np.argsort(-stages.score(page), kind="stable") for page in pages)
    clicks = np.array([world.expected(visit, order) for visit, order in zip(visits, orders, strict=True)])
    if stages.look_up is not right.look_up:
        clicks *= [_answers(stages, visit) for visit in visits]
    return clicks


def _answers(stages: Stages, visit: Visit) -> bool:
    name, items = visit.shopper.name, tuple(item_name(int(item)) for item in visit.items)
    try:
        stages.look_up(Admitted("", name, name, items, {}, datetime.now(UTC), "", 0, BucketCheck.OK))
    except ZeroDivisionError:
        return False
    return True


def _rows(served: Served, visits: Sequence[Visit]) -> Matrix:
    """The model's inputs of all items of all visits, by one lookup."""
    names = [visit.shopper.name for visit in visits]
    items = np.concatenate([visit.items for visit in visits])
    known = np.unique(items)
    when = datetime.now(UTC)
    found = served.reader.read_together({"shopper": names, "item": [item_name(int(one)) for one in known]}, when)
    who = np.repeat(np.arange(len(visits)), PLACES)
    moments = np.full(len(items), when.timestamp())
    batch = Batch(found["shopper"].side, found["item"].side, who, np.searchsorted(known, items), moments)
    return matrix(INPUTS.validate_python([dict(one) for one in served.bundle.manifest.inputs]), batch)


def _ratio(candidate: Floats, stable: Floats) -> Effect:
    """Of two sums over the same visits; linearized (Cochran 1977, §6.3)."""
    ratio = float(candidate.sum() / stable.sum())
    left = candidate - ratio * stable
    return Effect(ratio - 1, float(left.std() * np.sqrt(len(left)) / stable.sum()))
