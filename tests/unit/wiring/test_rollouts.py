"""A controller's tick that meets what does not answer: told, and made up for by the next."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "rollout"))
from fakes import ONE, World

from serinus.core.errors import Conflict, DataError, SerinusError, Unavailable
from serinus.rollout.service import ServiceView, Standing
from serinus.wiring.rollouts import Hosted, tick


@pytest.mark.parametrize("fault", [Unavailable("the registry does not answer"), Conflict("another process reduces")])
def test_a_service_outlives_what_does_not_answer(fault: SerinusError) -> None:
    world = World()
    controller = world.controller()
    host = Hosted(controller, None, controller._ports, None)  # type: ignore[arg-type]  # no process is stopped here
    asked: list[float] = []

    def reduce(now: float) -> None:
        asked.append(now)
        if len(asked) == 1:
            raise fault

    assert tick(host, reduce, lambda: 5.0) is fault
    found = tick(host, reduce, lambda: 6.0)
    assert isinstance(found, ServiceView)
    assert (found.standing, found.stable, asked) == (Standing.SERVING, ONE, [5.0, 6.0])


def test_a_reduction_that_fails_takes_only_the_evidence() -> None:
    """The first revision comes up although nothing can be reduced."""
    controller = World().controller()
    host = Hosted(controller, None, controller._ports, None)  # type: ignore[arg-type]
    fault = Unavailable("the log does not answer")

    def reduce(_: float) -> None:
        raise fault

    assert tick(host, reduce, lambda: 5.0) is fault
    assert controller.stable() == ONE


def test_a_service_outlives_a_full_disk() -> None:
    world = World()
    controller = world.controller()
    host = Hosted(controller, None, controller._ports, None)  # type: ignore[arg-type]
    full = [True]

    def reduce(_: float) -> None:
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device", "looks.parquet")

    told = tick(host, reduce, lambda: 5.0)
    assert isinstance(told, Unavailable)
    assert (told.headline, "looks.parquet" in told.cause) == ("the disk is full", True)
    full[0] = False
    assert isinstance(tick(host, reduce, lambda: 6.0), ServiceView)


def test_a_damaged_file_is_no_passing_fault() -> None:
    controller = World().controller()
    host = Hosted(controller, None, controller._ports, None)  # type: ignore[arg-type]

    def reduce(_: float) -> None:
        raise DataError("the log is damaged")

    with pytest.raises(DataError):
        tick(host, reduce, lambda: 5.0)
