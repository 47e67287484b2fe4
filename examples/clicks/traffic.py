"""Visitors of the shop: each is shown a page, clicks, and the shop reports the clicks.

Invariant: who comes, and what they click of a page, is the world's; the page is whatever `ask` says, and the time that
of `now`. So the same visitors meet a service in one process on a clock of its own, or real servers on that of the wall.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from examples.clicks.world import Visit, World, item_name
from serinus.client import Client, Refused, RoutedClient, RouteFile, Unreachable

CLICKED = "clicked"
# Items in the order shown; None when the service had no answer, and the visitor saw an empty page.
Ask = Callable[[Visit], Sequence[str] | None]
Report = Callable[[Sequence[Mapping[str, object]]], object]


@dataclass(frozen=True)
class Driver:
    """Plays visits, one after the other."""

    world: World
    ask: Ask
    report: Report
    now: Callable[[], float] = time.time

    def play(self, visit: Visit) -> bool:
        """Whether the visitor was shown anything."""
        shown = self.ask(visit)
        if shown is None:
            return False
        clicks = self.world.clicked(visit, [int(name.removeprefix("i")) for name in shown])
        if clicks:
            when = datetime.fromtimestamp(self.now(), UTC).isoformat()
            self.report([_click(visit, item_name(item), when) for item in clicks])
        return True


def _click(visit: Visit, item: str, when: str) -> dict[str, object]:
    request = visit.request_id
    return {"id": f"{request}/{item}", "name": CLICKED, "request_id": request, "item": item, "as_of": when}


@dataclass(frozen=True)
class Shop:
    """Where the service is: the route table that its callers read, and the collector of outcomes."""

    routes: Path
    collector: str


@dataclass
class Counted:
    """What became of the visits so far."""

    played: int = 0
    empty: int = 0
    broken: list[str] = field(default_factory=list)


@contextmanager
def visitors(world: World, shop: Shop, first: int, callers: int = 2) -> Iterator[Counted]:
    """Visits from number `first` on, over HTTP and on the clock of the wall, for as long as the block lasts."""
    counted, numbers, over, lock = Counted(), count(first), threading.Event(), threading.Lock()

    def call() -> None:
        try:
            with _caller(world, shop) as driver:
                while not over.is_set():
                    shown = driver.play(world.visit(next(numbers)))
                    with lock:
                        counted.played += 1
                        counted.empty += not shown
        except (Unreachable, Refused, OSError, ValueError) as fault:
            counted.broken.append(f"{type(fault).__name__}: {fault}")

    threads = [threading.Thread(target=call, name=f"visitors-{number}", daemon=True) for number in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield counted
    finally:
        over.set()
        for thread in threads:
            thread.join()


@contextmanager
def _caller(world: World, shop: Shop) -> Iterator[Driver]:
    serving, reporting = RoutedClient(RouteFile(shop.routes)), Client(shop.collector)

    def ask(visit: Visit) -> list[str] | None:
        try:
            items = [item_name(int(item)) for item in visit.items]
            answer = serving.predict(visit.shopper.name, items, request_id=visit.request_id)
        except Refused:
            return None
        return [str(one["item"]) for one in answer["items"]]

    try:
        yield Driver(world, ask, reporting.send_outcomes)
    finally:
        serving.close()
        reporting.close()
