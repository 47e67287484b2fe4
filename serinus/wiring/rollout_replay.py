"""Recorded visits through a service's route, with its rollouts deciding as they go: the loop on one machine.

Invariant: a tick happens only when no request is under way and every outcome that is due was taken, so the same visits
meet the same route whatever the machine's pace.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from serinus.core.errors import Unavailable
from serinus.core.rollout.evidence import Readiness
from serinus.core.rollout.state import RolloutState
from serinus.core.words import Phase
from serinus.evidence.plan import KpiPlan
from serinus.replay.player import Pauses, Player, Target
from serinus.replay.progress import Progress, Sent
from serinus.replay.recording import read_recording
from serinus.replay.report import latency
from serinus.replay.schedule import Schedule
from serinus.rollout.service import ServiceView, Standing
from serinus.wiring.adapters import feature_clock
from serinus.wiring.evidence import reducer
from serinus.wiring.project import Project
from serinus.wiring.replay import REPLAYS, ReplayWish, new_plan
from serinus.wiring.replayed import ReplayedFiles
from serinus.wiring.rollouts import Hosted
from serinus.wiring.services import places, service_of
from serinus.wiring.steps.data import recording_folder

# Predictors flush exposures every tenth of a second; twice that is safe when nothing is under way.
FLUSH_SECONDS = 0.25
START_SECONDS = 120.0


@dataclass
class Played:
    """What a replay did: failures by rollout and step, latencies, and how the service stood at the end."""

    view: ServiceView
    seconds: float = 0.0
    sent: int = 0
    failed: int = 0
    first_failure: str = ""
    failed_by_step: Counter[tuple[str, int]] = field(default_factory=Counter)
    latency_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Watchers:
    """Told of every finished request, and of the service after every tick."""

    on_sent: Callable[[Sent], None] = lambda _: None
    on_tick: Callable[[ServiceView], None] = lambda _: None


def replay_rollouts(
    project: Project, wish: ReplayWish, host: Hosted, watchers: Watchers, *, every: int, name: str = ""
) -> Played:
    """Plays passes until nothing is left to decide, at most `wish.passes`; a tick every `every` requests.

    With `name` it ends when that rollout has ended. Raises `Unavailable` when the arms do not come up, and what a
    `Player` raises when nobody answers or everything is refused.
    """
    service = service_of(project, wish.service)
    card = project.problem(service.problem).card
    played = Played(_started(host, watchers))
    folder = project.home / REPLAYS / wish.name
    recording = read_recording(recording_folder(project, card.name), card.name)
    schedule = Schedule(recording, new_plan(folder, wish), KpiPlan.of(card).longest)
    reduce, counting = reducer(project, service.ref, card).reduce, threading.Lock()
    place = places(project, service.ref)
    counted = ReplayedFiles(place.rollouts, len(schedule.recording.requests))

    def pause(as_of: datetime) -> bool:
        time.sleep(FLUSH_SECONDS)
        reduce(as_of.timestamp())
        counted.write()
        played.view = _ticked(host)
        watchers.on_tick(played.view)
        return _done(host, played.view, name)

    def sent(one: Sent) -> None:
        """Called from the threads that send."""
        with counting:
            played.failed_by_step[_where(played.view)] += bool(one.fault)
            played.first_failure = played.first_failure or one.fault
            if played.view.rollout is not None and not played.view.rollout.phase.ended:
                counted.count(played.view.rollout.name, one.number)
        watchers.on_sent(one)

    target = Target("", wish.collector, service.ref.name, service.salt, wish.concurrency, wish.rate, place.route)
    progress = Progress(folder)
    began = time.perf_counter()
    try:
        clock = feature_clock(project, card.name, wish.online).move_to
        Player(schedule, target, progress, clock, sent, Pauses(every, pause)).play()
    finally:
        progress.close()
    everything = progress.sent()
    played.seconds, played.sent = time.perf_counter() - began, len(everything)
    played.failed, played.latency_ms = sum(bool(one.fault) for one in everything), latency(everything)
    return played


def _started(host: Hosted, watchers: Watchers) -> ServiceView:
    """The service once every arm answers that its route leads to, also when it was stopped in the middle of a rollout.

    `watchers` see what is waited for meanwhile.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        view = _ticked(host)
        waits = _waits_for(host, view)
        watchers.on_tick(replace(view, reason=waits) if waits else view)
        if not waits:
            return view
        if time.monotonic() > deadline:
            raise Unavailable("the arms of the service do not come up", cause=waits)
        time.sleep(0.1)


def _waits_for(host: Hosted, view: ServiceView) -> str:
    """The arm that does not answer yet, and why; nothing when all do. Raises `Unavailable` when one never will."""
    if view.standing is Standing.STARTING:
        return view.reason or "the first revision is started"
    for revision in host.controller.reached():
        found = host.arms.condition(revision)
        if found.readiness is Readiness.FAILED:
            raise Unavailable(f"{revision.name} cannot start", cause=found.reason)
        if found.readiness is not Readiness.READY:
            return f"{revision.name}: {found.reason}"
    return ""


def _ticked(host: Hosted) -> ServiceView:
    """A tick, and more while an arm is coming up: a replay need not go on meanwhile."""
    view = host.controller.tick()
    while view.rollout is not None and view.rollout.phase in (Phase.QUEUED, Phase.DEPLOYING):
        time.sleep(0.1)
        view = host.controller.tick()
    return view


def _done(host: Hosted, view: ServiceView, name: str) -> bool:
    if name:
        return host.rollouts.state(name).phase.ended
    return host.controller.settled() and view.standing is not Standing.STARTING


def _where(view: ServiceView) -> tuple[str, int]:
    state: RolloutState | None = view.rollout
    return (state.name, state.step) if state is not None else ("", -1)
