"""A run that is taken up again keeps what would be made the same, and makes the rest anew, with the reason."""

from __future__ import annotations

import ast
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

import serinus
from serinus.core.errors import Conflict, NotFound
from serinus.core.names import ServiceRef
from serinus.core.run import StepRecord, changes
from serinus.wiring.journal import Journal
from serinus.wiring.made_of import CHAMPION, MAKER, NO_CHAMPION, OTHER_ROOMS, USES, kind, made_of
from serinus.wiring.project import Project, open_project
from serinus.wiring.resume import Resumable, RunFile, stale
from serinus.wiring.shared import WrittenBy, feature_sources, recordings

ALL = [
    *("prepare", "contract_raw", "features", "training_set", "contract_training"),
    *("train_gbdt", "train_linear", "evaluate", "gates", "register", "materialize", "deploy"),
]
CARD, DATA = "problems/renewal/problem.yaml", "problems/renewal/data/accounts.csv"


class Run:
    """A run of renewal up to some step: records, artifacts and marks as the steps leave them."""

    def __init__(self, folder: Path, last: str = "deploy") -> None:
        self.folder = folder
        self.journal = Journal(self.project.home, "renewal", "mine")
        self.resumable.begin("chosen")
        for name in ALL[: ALL.index(last) + 1]:
            self.record(name)
        for place in (feature_sources, recordings):
            with place(self.project.home, "renewal").writing(WrittenBy(run="mine")):
                pass

    @property
    def project(self) -> Project:
        return open_project({"SERINUS_PROJECT": str(self.folder)})

    @property
    def resumable(self) -> Resumable:
        return Resumable(self.project, self.project.problem("renewal"), self.journal)

    def artifact(self, step: str) -> Path:
        return self.journal.folder / "artifacts" / step

    def record(self, name: str) -> None:
        problem = self.project.problem("renewal")
        reads = {read: str(self.artifact(step)) for read, step in MAKER.items() if kind(step) in USES[kind(name)].after}
        reads = {read: path for read, path in reads.items() if Path(path).exists()}
        if name == "prepare":
            reads = {"data.source": str(problem.source)}
        parameters = {"register": "chosen"} if name in ("gates", "register") else {}
        parameters |= {"service": "default/renewal"} if name == "deploy" else {}
        made = made_of(self.project, problem, name, reads, parameters)
        self.artifact(name).mkdir(parents=True)
        (self.artifact(name) / "rows").write_text(name)
        at = datetime(2026, 1, 1, tzinfo=UTC)
        if name == "evaluate":
            made[CHAMPION] = NO_CHAMPION
        record = StepRecord(name=name, status="ok", started_at=at, seconds=1, made_of=made, reads=reads)
        self.journal.write(record)

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.folder / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def stale(self, register: str = "chosen") -> dict[str, str]:
        asked = RunFile(problem="renewal", register=register)
        return stale(self.project, self.project.problem("renewal"), self.journal.read(), asked)


@pytest.fixture
def run(renewal_project: Path) -> Run:
    return Run(renewal_project)


def test_a_run_of_which_nothing_changed_is_kept_whole(run: Run) -> None:
    assert run.stale() == {}


@pytest.mark.parametrize(
    ("change", "first", "why"),
    [
        (lambda r: r.edit(DATA, "A000", "B000"), "prepare", "input data.source changed"),
        (lambda r: r.edit(CARD, "2025-01-02T00", "2025-01-02T01"), "prepare", "card data.snapshot_time: 2025-"),
        (lambda r: r.edit("problems/renewal/contract.yaml", "100000", "99999"), "contract_raw", "contract.yaml"),
        (lambda r: r.edit("problems/renewal/dataset.py", "hours=9", "hours=8"), "features", "dataset.py changed"),
        (lambda r: r.edit("problems/renewal/features.py", "rolling(3", "rolling(2"), "features", "features.py changed"),
        (lambda r: (r.folder / "problems/renewal/helper.py").write_text("A = 1"), "features", "helper.py is new"),
        (lambda r: r.edit("feature_repo/renewal.py", "days=62", "days=31"), "features", "renewal.py changed"),
        (lambda r: r.edit("feature_repo/feature_store.yaml", "1000", "500"), "features", "feature_store.yaml changed"),
        (lambda r: r.edit(CARD, "maturity: 30d", "maturity: 31d"), "training_set", "maturity: 30d, now 31d"),
        (lambda r: r.edit(CARD, "2024-09-01}", "2024-08-31}"), "training_set", "splits.validate.end: 2024-09-01, now"),
        (lambda r: r.edit(CARD, "C: 0.3", "C: 0.4"), "train_gbdt", "candidates[0].params.C: 0.3, now 0.4"),
        (lambda r: r.edit(CARD, "sampling_correction  ", "platt  "), "train_gbdt", "data.calibration: sampling"),
        (lambda r: r.edit(CARD, "max_ms: 20", "max_ms: 10"), "evaluate", "gates[3].max_ms: 20.0, now 10.0"),
        (lambda r: (r.artifact("training_set") / "rows").write_text("x"), "training_set", "what it made"),
        (lambda r: (r.artifact("evaluate") / "rows").unlink(), "evaluate", "what it made"),
    ],
    ids=[
        *("data", "snapshot time", "contract", "dataset", "features", "helper", "repo", "store", "label", "split"),
        *("candidate", "calibration", "gate", "an artifact", "a lost artifact"),
    ],
)  # fmt: skip
def test_each_kind_of_change_makes_anew_what_depends_on_it(
    run: Run, change: Callable[[Run], object], first: str, why: str
) -> None:
    change(run)
    found = run.stale()
    assert next(iter(found)) == first
    assert why in found[first]
    kept = set(ALL) - set(found)
    assert set(ALL[: ALL.index(first)]) <= kept, "what came before is kept"
    for step in kept:
        assert not {kind(one) for one in found} & set(USES[kind(step)].after), "nothing kept reads what is made anew"
    assert "deploy" in found


def test_another_choice_to_register_is_judged_and_registered_anew(run: Run) -> None:
    found = run.stale("gbdt")
    assert list(found) == ["gates", "register", "materialize", "deploy"]
    assert found["gates"] == "parameter register: chosen, now gbdt"


def test_no_room_whose_changes_are_left_out_is_imported_by_what_makes_results() -> None:
    """How an id is written is `serinus.client`'s, and decides what features join: a change there makes anew, too."""
    package = Path(serinus.__file__).parent
    made_in = [package / room for room in ("core", "features", "model", "registry", "training", "validation")]
    named = {
        str(node.module).split(".")[1]
        for room in made_in
        for path in room.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("serinus.")
    }
    assert "core" in named
    assert not named & OTHER_ROOMS


@pytest.mark.parametrize("library", ["library numpy", "library python", "code of serinus"])
def test_another_version_makes_everything_anew(run: Run, library: str) -> None:
    for record in run.journal.read().steps:
        run.journal.write(record.model_copy(update={"made_of": record.made_of | {library: "0.1"}}))
    assert list(run.stale()) == ALL
    assert run.stale()["prepare"].startswith(library)


def test_what_reads_nothing_that_changed_is_kept(run: Run) -> None:
    run.edit(CARD, "min_units: 60", "min_units: 61")
    run.edit(CARD, "window: 30d", "window: 31d")
    assert run.stale() == {}


def test_a_record_that_does_not_say_what_it_was_made_of_is_not_trusted(run: Run) -> None:
    for record in run.journal.read().steps:
        run.journal.write(record.model_copy(update={"made_of": {}}))
    assert run.stale()["prepare"] == "its record does not say what it was made of"


def test_a_champion_that_moved_is_judged_against_anew(run: Run) -> None:
    record = run.journal.read().step("evaluate")
    assert record is not None
    run.journal.write(record.model_copy(update={"made_of": record.made_of | {CHAMPION: "7"}}))
    assert run.stale()["evaluate"] == "input champion: 7, now none"


@pytest.mark.parametrize(("place", "step"), [(feature_sources, "features"), (recordings, "training_set")])
def test_an_unfinished_run_writes_anew_what_another_run_replaced(
    renewal_project: Path, place: Callable[..., object], step: str
) -> None:
    run = Run(renewal_project, last="register")
    with place(run.project.home, "renewal").writing(WrittenBy(run="theirs")):  # type: ignore[attr-defined]
        pass
    found = run.stale()
    assert next(iter(found)) == step
    assert "run theirs wrote its" in found[step]
    assert set(found) >= {"training_set", "train_linear", "evaluate", "register"}


def test_a_finished_run_does_not_mind_that_others_went_on(run: Run) -> None:
    with feature_sources(run.project.home, "renewal").writing(WrittenBy(run="theirs")):
        pass
    assert run.stale() == {}


def test_taking_up_forgets_what_is_made_anew_and_keeps_the_choice(run: Run) -> None:
    before = run.resumable.known().kept(run.project.problem("renewal").card)
    run.edit(CARD, "max_ms: 20", "max_ms: 10")
    file, anew = run.resumable.take_up("")
    assert file.register_ == "chosen"
    assert list(anew) == ["evaluate", "gates", "register", "materialize", "deploy"]
    assert [one.name for one in run.journal.read().steps] == ALL[: ALL.index("evaluate")]
    after = file.kept(run.project.problem("renewal").card)
    assert {step for step in after if after[step] != before[step]} == set(anew)
    assert run.resumable.take_up("")[0] == file, "nothing more is made anew the next time"


def test_a_run_whose_home_was_moved_makes_all_of_its_results_anew(run: Run, renewal_project: Path) -> None:
    """Its records, and the cache of the pipeline, name them by whole paths."""
    before = run.resumable.known()
    moved = Run.__new__(Run)
    moved.folder = renewal_project.rename(renewal_project.with_name("moved"))
    moved.journal = Journal(moved.project.home, "renewal", "mine")
    file, anew = moved.resumable.take_up("")
    assert anew == dict.fromkeys(ALL, f"it was moved from {run.journal.folder}")
    assert moved.journal.read().steps == ()
    assert file.folder == str(moved.journal.folder) != before.folder
    assert moved.resumable.take_up("") == (file, {})


def test_a_run_that_is_taken_up_for_another_service_deploys_anew_and_trains_nothing(run: Run) -> None:
    asked = RunFile(problem="renewal", register="chosen", service="shop/renewal-b")
    found = stale(run.project, run.project.problem("renewal"), run.journal.read(), asked)
    assert list(found) == ["deploy"]
    assert "service" in found["deploy"]
    assert run.resumable.take_up("", "shop/renewal-b")[0].ref == ServiceRef("shop", "renewal-b")
    assert run.resumable.known().service == "shop/renewal-b"


def test_a_run_is_resumed_for_its_own_problem_alone(run: Run) -> None:
    with pytest.raises(Conflict, match="there is a run mine already"):
        run.resumable.begin("chosen")
    (run.folder / "problems/renewal").rename(run.folder / "problems/other")
    (run.folder / "problems/other/problem.yaml").write_text(
        (run.folder / "problems/other/problem.yaml").read_text().replace("name: renewal", "name: other", 1)
    )
    other = Resumable(run.project, run.project.problem("other"), run.journal)
    with pytest.raises(Conflict, match="is one of renewal, not of other"):
        other.known()
    gone = Journal(run.project.home, "other", "gone")
    with pytest.raises(NotFound, match="no run gone to resume"):
        Resumable(run.project, run.project.problem("other"), gone).known()


def test_changes_are_named_with_their_values_when_these_are_short() -> None:
    before = {"a": "1", "b": "x" * 64, "c": "same", "d": "gone"}
    now = {"a": "2", "b": "y" * 64, "c": "same", "e": "new"}
    assert changes(before, now) == ["a: 1, now 2", "b changed", "d is gone", "e is new"]


def test_a_name_whose_run_was_killed_before_it_began_is_free(run: Run) -> None:
    killed = Journal(run.project.home, "renewal", "killed")
    killed.folder.mkdir()
    (killed.folder / ".run.json.4711").write_text('{"problem": "ren')
    begun = Resumable(run.project, run.project.problem("renewal"), killed)
    begun.begin("chosen")
    assert begun.known().register_ == "chosen"
