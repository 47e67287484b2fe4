"""Submits a compiled pipeline to a Kubeflow Pipelines 2.17 API, follows the run, and cancels it.

Invariant: a submission under a name that is known finds that run instead of starting a second one; following ends on
every end state, cancelled ones included. Tested against the published API models on a fake server that answers as a
backend of 2.17.0 did; no real backend runs in this repository's CI.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.kfp_api import END_STATES, KfpRuns, Submission, specification
from pipelines.run_tasks import Failure, failures, is_pending, task_names, task_states
from pipelines.settings import HOME_CLAIM
from serinus.core.errors import Unavailable

POLL_SECONDS = 5.0
CANCEL_POLLS = 24
LOOKS = 6  # at a run, until an API that does not answer is taken at its word
PATIENCE_SECONDS = 180.0  # of a pod that waits to be started, until the usual causes are told
OnEvent = Callable[[str], None]


@dataclass(frozen=True)
class Clock:
    """Time as a value, so that no test waits."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class SubmittedRun:
    """A run as last seen; `state` is one of KFP's runtime states, or SUBMITTED. `tasks` are states by name."""

    run_id: str
    state: str
    url: str
    tasks: Mapping[str, str] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()

    @property
    def exit_code(self) -> int:
        """That of the first failed step, as `serinus pipeline run` would end."""
        if self.state in ("SUCCEEDED", "SUBMITTED"):
            return 0
        return self.failures[0].exit_code if self.failures else 1


@dataclass(frozen=True)
class Watch:
    """How a run is followed: where each change is told, and for how many seconds at most (0: to its end)."""

    on_event: OnEvent
    timeout: float = 0.0
    clock: Clock = Clock()


def connect(submission: Submission) -> KfpRuns:
    """The API that a submission names."""
    return KfpRuns(submission.endpoint, submission.namespace, submission.token, submission.ui)


def submit_and_follow(submission: Submission, watch: Watch, *, wait: bool) -> SubmittedRun:
    """Submits and, with `wait`, follows to the end; Ctrl-C cancels the run, waits for that, and goes on as Ctrl-C."""
    runs = connect(submission)
    run_id = runs.create(submission)
    watch.on_event(" ".join(part for part in (f"submitted {submission.run_name}: {run_id}", runs.url(run_id)) if part))
    if not wait:
        return SubmittedRun(run_id, "SUBMITTED", runs.url(run_id))
    package = specification(submission.package)
    names = task_names(package.get("pipeline_spec", package))
    try:
        return follow(runs, run_id, names, watch)
    except KeyboardInterrupt:
        watch.on_event(f"cancelling {run_id}")
        runs.terminate(run_id)
        _await_end(runs, run_id, watch.clock)
        raise Cancelled(run_id) from None


class Cancelled(KeyboardInterrupt):
    """Ctrl-C after which the run was cancelled."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.run_id = run_id


def follow(runs: KfpRuns, run_id: str, names: Mapping[str, str], watch: Watch) -> SubmittedRun:
    """Polls until the run has ended; tells each change of the run and of its tasks once, and why it stands still.

    `names` are the shown names of tasks by key. Raises `Unavailable` when the time is over; the run goes on.
    """
    seen: dict[str, str] = {}
    began, still = watch.clock.now(), _Standstill(watch.clock.now)
    while True:
        run = _look(runs, run_id, watch)
        states = task_states(run, names) | ({"run": str(run.state).lower()} if run.state else {})
        news = {name: state for name, state in states.items() if seen.get(name) != state}
        for name, state in news.items():
            watch.on_event(f"{name}: {state}")
        seen |= news
        if run.state in END_STATES:
            return _ended(runs, run, names, seen)
        if still.is_new(moved=bool(news) or not is_pending(run)):
            watch.on_event(_why_pending(runs, run_id))
        if watch.timeout and watch.clock.now() - began >= watch.timeout:
            raise Unavailable(
                f"run {run_id} has not ended after {watch.timeout:.0f} s",
                cause=_why_pending(runs, run_id) if is_pending(run) else "",
                hint=f"it goes on: `serinus pipeline watch {run_id}` follows it",
            )
        watch.clock.sleep(POLL_SECONDS)


def _look(runs: KfpRuns, run_id: str, watch: Watch) -> Any:  # noqa: ANN401 - V2beta1Run
    """The run as it is now. A look that fails is tried again: the run goes on while a connection breaks."""
    for _ in range(LOOKS - 1):
        try:
            return runs.get(run_id)
        except Unavailable as fault:
            watch.on_event(f"{fault.headline}; looking again")
            watch.clock.sleep(POLL_SECONDS)
    try:
        return runs.get(run_id)
    except Unavailable as fault:
        hint = f"the run goes on: `serinus pipeline watch {run_id}` follows it"
        raise Unavailable(fault.headline, cause=fault.cause, hint=hint) from fault


class _Standstill:
    """Notices, once each time, that nothing has moved for longer than starting a pod takes."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._since, self._told = now, now(), False

    def is_new(self, *, moved: bool) -> bool:
        if moved:
            self._since, self._told = self._now(), False
        due = not self._told and self._now() - self._since >= PATIENCE_SECONDS
        self._told = self._told or due
        return due


def _why_pending(runs: KfpRuns, run_id: str) -> str:
    """KFP's API cannot see pods: what usually holds one up, and the command that knows."""
    return (
        f"a pod waits to be started; usual causes: no claim {HOME_CLAIM} in the runs' namespace, an image that no node "
        "can pull, no node with the CPUs and the memory free; which one, says "
        f"`kubectl --namespace {runs.namespace or 'kubeflow'} describe pods --selector pipeline/runid={run_id}`"
    )


def _ended(runs: KfpRuns, run: Any, names: Mapping[str, str], seen: Mapping[str, str]) -> SubmittedRun:  # noqa: ANN401
    """A task without a state was never started."""
    tasks = {name: seen.get(name, "omitted") for name in names.values()}
    found = failures(runs, run, tasks) if run.state != "SUCCEEDED" else ()
    return SubmittedRun(str(run.run_id), str(run.state), runs.url(run.run_id), tasks, found)


def _await_end(runs: KfpRuns, run_id: str, clock: Clock) -> None:
    for _ in range(CANCEL_POLLS):
        if runs.get(run_id).state in END_STATES:
            return
        clock.sleep(POLL_SECONDS)
