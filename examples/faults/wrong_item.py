"""A predictor with a fault in serving: the customer-item features are joined on the wrong item.

`wrong_item.py SETTINGS`, as `serinus.wiring.serve` is started. The bundle is sound and passes every gate offline: only
the rows that reach the model here are wrong, as after a change of a join key in serving code alone.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial

import numpy as np

from serinus.features.batch import Batch
from serinus.features.transforms import Matrix
from serinus.serving.stages import LookedUp, Stages
from serinus.wiring.serve import main


def shifted(stages: Stages) -> Stages:
    """Each item's history features are those of the item before it in the request."""
    return replace(stages, transform=partial(_transform, stages))


def _transform(stages: Stages, found: LookedUp) -> Matrix:
    right = stages.transform(found)
    batch = found.batch
    wrong = Batch(batch.entity, batch.item, batch.entity_row, np.roll(batch.item_row, 1), batch.as_of, batch.context)
    mixed = stages.transform(replace(found, batch=wrong))
    columns = history_columns(stages)
    right[:, columns] = mixed[:, columns]
    return right


def history_columns(stages: Stages) -> list[int]:
    """Inputs that join a customer's history with the item."""
    names: tuple[str, ...] = stages.transform.names  # type: ignore[attr-defined]  # that of `Transform`
    return [position for position, name in enumerate(names) if name.startswith("x_")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], shifted))
