"""Writes the shop's log of the past: `python -m examples.clicks log`. One row an impression, seeded.

The old ranking knew taste and appeal, not the purse, and it was noisy: so what it showed where tells something of every
item, and its pages were clicked about as often as those of the first model.
Invariant: the same seed gives the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from examples.clicks.world import PLACES, TASTE, World, item_name

FILE = Path(__file__).parent / "problems/clicks/data/impressions.parquet"
FIRST_DAY, DAYS, VISITS = np.datetime64("2026-09-01"), 56, 8_000
COLUMNS = ("visit", "at", "shopper", "item", "topic", "price", "clicked")


def impressions(world: World, numbers: Iterable[int] = range(VISITS)) -> pa.Table:
    """Of past visits by their numbers; these lie evenly over the days, in order of time."""
    rows: dict[str, list[object]] = {name: [] for name in COLUMNS}
    step = np.timedelta64(DAYS * 86_400 // VISITS, "s")
    for number in numbers:
        visit, at = world.past_visit(number), FIRST_DAY + number * step
        liked = world.appeal[visit.items] + TASTE * visit.shopper.taste[world.topics[visit.items]]
        noise = np.random.default_rng([world.seed, 9, number]).gumbel(0.0, 0.6, PLACES)
        shown = visit.items[np.argsort(-(liked + noise))]
        clicks = set(world.clicked(visit, shown.tolist()))
        for item in shown.tolist():
            values = (f"p{number}", at.item(), visit.shopper.name, item_name(item), f"t{world.topics[item]}",
                      round(float(np.exp(world.log_price[item])), 2), int(item in clicks))  # fmt: skip
            for name, value in zip(rows, values, strict=True):
                rows[name].append(value)
    kinds = {"at": pa.timestamp("s"), "price": pa.float64(), "clicked": pa.int64()}
    return pa.table({name: pa.array(column, type=kinds.get(name, pa.string())) for name, column in rows.items()})


def write() -> Path:
    """The file that the problem's card names."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(impressions(World()), FILE, compression="zstd")
    return FILE
