"""A shop whose truth is known: returning shoppers who click by taste, purse and position on what they are shown.

Invariant: everything is a function of the seed and a number (of a shopper, an item, a visit): who comes, what may be
shown to them, and for any order of it which items are clicked. So two versions can be compared on the very same visits,
and when something is asked changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SHOPPERS, ITEMS, TOPICS = 1_200, 120, 8
# A page has ten places, and each is looked at less often than the one above it.
PLACES, READ_ON = 10, 0.75
# The share of visits by shoppers whom the log knows; the others come for the first time.
KNOWN = 0.8
# What taste and purse weigh in the log-odds of a click.
TASTE, PURSE = 5.0, 2.15
_SHOPPER, _ITEM, _VISIT, _CLICK, _PAST = range(5)


@dataclass(frozen=True)
class Shopper:
    """What nobody but the world knows: `taste` of each topic, the price that is looked for, how often they click."""

    name: str
    taste: Floats
    purse: float
    keen: float


@dataclass(frozen=True)
class Visit:
    """A shopper and the items that may be shown to them, in no order."""

    number: int
    shopper: Shopper
    items: Ints

    @property
    def request_id(self) -> str:
        """Unique in a world."""
        return f"v{self.number}"


@dataclass(frozen=True)
class World:
    """All of it, by its seed."""

    seed: int = 1

    @cached_property
    def topics(self) -> Ints:
        """Of each item."""
        return np.arange(ITEMS) % TOPICS

    @cached_property
    def log_price(self) -> Floats:
        """Of each item."""
        return self._rng(_ITEM, 0).normal(3.0, 0.8, ITEMS)

    @cached_property
    def appeal(self) -> Floats:
        """What an item has for everybody, in log-odds."""
        return self._rng(_ITEM, 1).normal(0.0, 0.5, ITEMS)

    def shopper(self, number: int) -> Shopper:
        """One of those whom the log knows below `SHOPPERS`; above they come for the first time."""
        rng = self._rng(_SHOPPER, number)
        taste = rng.dirichlet(np.full(TOPICS, 0.4))
        return Shopper(f"s{number}", taste, float(rng.normal(3.0, 0.8)), float(rng.normal(0.0, 0.4)))

    def visit(self, number: int) -> Visit:
        """Visits from 0 on are of today."""
        return self._visit(_VISIT, number, KNOWN)

    def visits(self, count: int, start: int = 0) -> Iterator[Visit]:
        """In their order."""
        return map(self.visit, range(start, start + count))

    def past_visit(self, number: int) -> Visit:
        """One that the log tells of: known shoppers alone."""
        return self._visit(_PAST, number, 1.0)

    def chances(self, visit: Visit) -> Floats:
        """The chance that each item of a visit is clicked where it is looked at."""
        who, items = visit.shopper, visit.items
        odds = 1.0 + who.keen + self.appeal[items] + TASTE * who.taste[self.topics[items]]
        odds -= PURSE * np.square(self.log_price[items] - who.purse)
        return np.asarray(1 / (1 + np.exp(-odds)))

    def clicked(self, visit: Visit, shown: Sequence[int]) -> list[int]:
        """The items that are clicked of those `shown`, in this order; an item's own draw is the same at any place."""
        order = np.asarray(shown, dtype=np.int64)
        draws = self._rng(_CLICK, visit.number).random(ITEMS)[order]
        chances = np.zeros(ITEMS)
        chances[visit.items] = self.chances(visit)
        return [int(item) for item in order[draws < chances[order] * looked_at(len(order))]]

    def expected(self, visit: Visit, order: Ints) -> float:
        """The mean number of clicks when the items of a visit are shown in an order (positions in `visit.items`)."""
        return float(self.chances(visit)[order] @ looked_at(len(order)))

    def expected_at_random(self, visit: Visit) -> float:
        """The mean over all orders."""
        return float(self.chances(visit).mean() * looked_at(len(visit.items)).sum())

    def _visit(self, kind: int, number: int, known: float) -> Visit:
        rng = self._rng(kind, number)
        who = int(rng.integers(SHOPPERS)) if rng.random() < known else SHOPPERS + number
        return Visit(number, self.shopper(who), rng.choice(ITEMS, PLACES, replace=False))

    def _rng(self, kind: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, kind, number])


def looked_at(places: int) -> Floats:
    """The chance that each place of a page is looked at, from the top."""
    return np.asarray(READ_ON ** np.arange(places), dtype=np.float64)


def item_name(item: int) -> str:
    """As the shop calls it."""
    return f"i{item:03d}"
