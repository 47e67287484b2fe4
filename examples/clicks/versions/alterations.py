"""What is wrong with each version: a predictor's stages, wrapped. Nothing in serinus/ knows of it.

Invariant: a version's order follows from the request alone, so its true effect can be computed; `same` changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from serinus.features.transforms import Matrix
from serinus.serving.plane import unaltered
from serinus.serving.stages import Admitted, LookedUp, Stages

Alter = Callable[[Stages], Stages]
# By so much a random order is clicked less often than that of the second model: `python -m examples.clicks truth`.
RANDOM_COSTS = 0.214
SLOW_SECONDS = 0.15


def alterations(pause: Callable[[float], None] = time.sleep) -> dict[str, Alter]:
    """By the name of the version. `pause` waits."""
    return {
        "same": unaltered,
        "slightly_worse": shuffled(0.05),
        "worse": shuffled(0.15),
        "halved": halved,
        "slow": slow(pause),
        "failing": failing,
    }


def shuffled(loss: float) -> Alter:
    """So many requests are answered in a random order that this share of the clicks is lost."""

    def alter(stages: Stages) -> Stages:
        def score(rows: Matrix) -> NDArray[np.float64]:
            found = stages.score(rows)
            # The request draws: the same one is answered the same way again.
            draw = np.random.default_rng(int.from_bytes(blake2b(rows.tobytes(), digest_size=8).digest(), "big"))
            return draw.permutation(found) if draw.random() < loss / RANDOM_COSTS else found

        return replace(stages, score=score)

    return alter


def halved(stages: Stages) -> Stages:
    """The order is as good as it was; the probabilities are half of what they should be."""
    return replace(stages, score=lambda rows: stages.score(rows) / 2)


def slow(pause: Callable[[float], None]) -> Alter:
    """Each answer takes a moment longer."""

    def alter(stages: Stages) -> Stages:
        def score(rows: Matrix) -> NDArray[np.float64]:
            pause(SLOW_SECONDS)
            return stages.score(rows)

        return replace(stages, score=score)

    return alter


def failing(stages: Stages) -> Stages:
    """Whoever comes for the first time gets no answer: nobody had thought of an empty profile."""

    def look_up(admitted: Admitted) -> LookedUp:
        found = stages.look_up(admitted)
        if found.sides["shopper"].status["shopper_profile"][0] == "missing":
            raise ZeroDivisionError("no impressions of this shopper")
        return found

    return replace(stages, look_up=look_up)
