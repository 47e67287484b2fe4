"""Takes a run up again: keeps what would be made the same, and makes anew the rest, saying why.

Invariant: a result is used again only while all of its step's `made_of`, and every result that it reads, is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from serinus.core.card import Problem
from serinus.core.errors import Conflict, NotFound
from serinus.core.names import ServiceRef
from serinus.core.run import RunRecord, StepRecord, changes
from serinus.files import DISK
from serinus.rollout.local_store import read_document
from serinus.wiring.adapters import registry
from serinus.wiring.journal import Journal
from serinus.wiring.made_of import CHAMPION, INPUT, MAKER, NO_CHAMPION, USES, content_hash, kind, made_of
from serinus.wiring.project import LoadedProblem, Project
from serinus.wiring.shared import SharedFolder, feature_sources, recordings

_LAST = "deploy"
_PARAMETER = "parameter "


class RunFile(BaseModel):
    """`run.json`: what a run was asked to do, how often each of its steps was made anew, and the folder of its results.

    `service` is where it deploys; empty for the problem's usual one. Records and the pipeline's cache name results by
    whole paths, so those of a run that was moved since are not used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    problem: str
    register_: str = Field(alias="register")
    service: str = ""
    made_anew: dict[str, int] = Field(default_factory=dict)
    folder: str = ""

    @property
    def ref(self) -> ServiceRef:
        """Where it deploys."""
        return ServiceRef.parse(self.service or self.problem)

    def kept(self, card: Problem) -> dict[str, str]:
        """The name under which a result of each step is kept for the next time this run is taken up."""
        steps = [*(step for step in USES if step != "train"), *(f"train_{one.kind}" for one in card.data.candidates)]
        return {step: f"{step}/{self.made_anew.get(step, 0)}" for step in steps}


@dataclass(frozen=True)
class Resumable:
    """A run of a problem, as a command knows it."""

    project: Project
    problem: LoadedProblem
    journal: Journal

    @property
    def _path(self) -> Path:
        return self.journal.folder / "run.json"

    def begin(self, register: str, service: str = "") -> RunFile:
        """A new run. Raises `Conflict` for a name that was used."""
        run = self.journal.run
        if any(not one.name.startswith(".") for one in self.journal.folder.glob("*")):
            raise Conflict(f"there is a run {run} already", hint=f"take it up again with --resume {run}")
        folder = str(self.journal.folder)
        return self._save(RunFile(problem=self.problem.card.name, register=register, service=service, folder=folder))

    def known(self) -> RunFile:
        """A run that began earlier. Raises `NotFound`, or `Conflict` when it is another problem's."""
        run, name = self.journal.run, self.problem.card.name
        if not self._path.is_file():
            why = "it has no run.json: an earlier release made it" if self.journal.folder.is_dir() else ""
            raise NotFound(f"no run {run} to resume", cause=why, hint="a run's name is shown when it starts")
        found = read_document(self._path, RunFile)
        if found.problem != name:
            raise Conflict(
                f"run {run} is one of {found.problem}, not of {name}",
                hint=f"`serinus pipeline run {found.problem} --resume {run}`",
            )
        return found

    def take_up(self, register: str, service: str = "") -> tuple[RunFile, dict[str, str]]:
        """The run file from now on, and the steps that are made anew, each with the reason.

        `register` and `service` may be empty: what the run was asked before.
        """
        before = self.known()
        asked = before.model_copy(
            update={
                "register_": register or before.register_,
                "service": service or before.service,
                "folder": str(self.journal.folder),
            }
        )
        anew = self._anew(before, asked)
        counts = before.made_anew | {step: before.made_anew.get(step, 0) + 1 for step in anew}
        after = self._save(asked.model_copy(update={"made_anew": counts}))
        for step in anew:
            self.journal.drop(step)
        return after, anew

    def _anew(self, before: RunFile, asked: RunFile) -> dict[str, str]:
        record = self.journal.read()
        if before.folder in ("", asked.folder):
            return stale(self.project, self.problem, record, asked)
        return {one.name: f"it was moved from {before.folder}" for one in _finished(record)}

    def _save(self, file: RunFile) -> RunFile:
        DISK.replace(self._path, file.model_dump_json(indent=1, by_alias=True) + "\n")
        return file


def stale(project: Project, problem: LoadedProblem, run: RunRecord, asked: RunFile) -> dict[str, str]:
    """Finished steps whose results must not be used again, each with the reason, in the order of the pipeline."""
    finished = _finished(run)
    now, damaged = _Now(project, problem, asked), _damaged(finished)
    found = now.stale(finished, damaged)
    # A run that ended needs no shared folder any more; one that goes on must own them.
    if any(one.name == _LAST for one in finished) and _LAST not in found:
        return found
    return now.stale(finished, _taken(project.home, run) | damaged)


def _finished(run: RunRecord) -> list[StepRecord]:
    return [one for one in run.steps if one.status == "ok" and kind(one.name) in USES]


@dataclass(frozen=True)
class _Now:
    """The world that finished steps are compared with."""

    project: Project
    problem: LoadedProblem
    asked: RunFile

    def stale(self, finished: list[StepRecord], lost: Mapping[str, str]) -> dict[str, str]:
        """`lost` are steps whose results are not there any more as they were made, each with the reason."""
        found: dict[str, str] = {}
        for record in finished:
            read = [step for step in found if kind(step) in USES[kind(record.name)].after]
            why = f"it reads {read[0]}" if read else lost.get(record.name, "") or self._changed(record)
            if why:
                found[record.name] = why
        return found

    def _changed(self, record: StepRecord) -> str:
        if not record.made_of:
            return "its record does not say what it was made of"
        said = {k.removeprefix(_PARAMETER): v for k, v in record.made_of.items() if k.startswith(_PARAMETER)}
        asked = {"register": self.asked.register_, "service": str(self.asked.ref)}
        said |= {name: value for name, value in asked.items() if name in said}
        now = made_of(self.project, self.problem, record.name, record.reads, said)
        if CHAMPION in record.made_of:
            champion = registry(self.project).aliased(self.problem.card.name, "champion")
            now[CHAMPION] = str(champion.version) if champion else NO_CHAMPION
        lines = changes(record.made_of, now)
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        return f"{lines[0]}{more}" if lines else ""


def _damaged(finished: list[StepRecord]) -> dict[str, str]:
    """Steps whose artifacts are not what others read of them."""
    return {
        MAKER[name]: f"what it made ({name}) was changed since"
        for record in finished
        for name, path in record.reads.items()
        if name in MAKER and record.made_of.get(INPUT + name, "") not in ("", content_hash(Path(path)))
    }


def _taken(home: Path, run: RunRecord) -> dict[str, str]:
    """Steps whose results stand in a shared folder that another run has written since."""
    shared: dict[str, SharedFolder] = {
        "features": feature_sources(home, run.problem),
        "training_set": recordings(home, run.problem),
    }
    found = {}
    for step, folder in shared.items():
        by = folder.written_by()
        if by is None or by.run != run.pipeline_run:
            found[step] = f"run {by.run} wrote its {folder.what} since" if by else f"its {folder.what} are gone"
    return found
