"""`problem check` finds what would break a run later, all of it at once, each by its file and its field or line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from serinus.core.errors import CardError, ProblemCodeError
from serinus.wiring.problem_check import TRIED_BYTES, check_problem
from serinus.wiring.project import load_module, open_project
from serinus.wiring.step import step
from serinus.wiring.steps.data import storable

PROBLEM, REPO = "problems/renewal", "feature_repo"
CARD, DATASET, FEATURES = f"{PROBLEM}/problem.yaml", f"{PROBLEM}/dataset.py", f"{PROBLEM}/features.py"


def edit(folder: Path, path: str, old: str, new: str) -> None:
    text = (folder / path).read_text()
    assert old in text
    (folder / path).write_text(text.replace(old, new, 1))


def faults(folder: Path) -> list[str]:
    """What the check says of the project, file and line or field first."""
    found = check_problem(open_project({"SERINUS_PROJECT": str(folder)}), "renewal")
    return [line if line.startswith(where) else f"{where}: {line}" for where, line in found.faults]


def test_a_problem_without_fault_is_tried_on_its_data_and_nothing_is_written(renewal_project: Path) -> None:
    found = check_problem(open_project(), "renewal")
    assert (found.faults, found.notes) == ([], [])
    assert not (renewal_project / ".serinus").exists()


def _in(path: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda folder: edit(folder, path, old, new)


def _without(path: str) -> Callable[[Path], None]:
    return lambda folder: (folder / path).unlink()


def _both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


DATA, STORE, DECLARED = f"{PROBLEM}/data/accounts.csv", f"{REPO}/feature_store.yaml", f"{REPO}/renewal.py"
TICKETS, SLICES = '"account_monthly:tickets"', "- {name: s, check: slices, metric: auc, by: [b], low: 0.5}\n    "
BROKEN = {
    "an import": (_in(DATASET, "import pandas", "import no_such\nimport pandas"), f"{DATASET}:10: ModuleNotFoundError"),
    "syntax": (_in(FEATURES, "Inputs = (", "Inputs = (("), f"{FEATURES}:14: SyntaxError: '(' was never closed"),
    "an input's value": (_in(FEATURES, 'scale="log"', 'scale="lgo"'), f"{FEATURES}:15: ValidationError"),
    "no inputs": (_in(FEATURES, "INPUTS: Inputs", "OUTPUTS: Inputs"), f"{FEATURES}: INPUTS is missing"),
    "no function": (_in(DATASET, "def clean", "def cleaned"), f"{DATASET}: clean is missing"),
    "no module": (_without(DATASET), f"{DATASET}: no module at"),
    "no declarations": (_without(DECLARED), f"{DECLARED}: no module at"),
    "declarations": (_in(DECLARED, "days=62", "days=sixty"), f"{DECLARED}:13: NameError"),
    "no store": (_without(STORE), f"{STORE}: "),
    "a store of another kind": (_in(STORE, "type: sqlite", "type: cassandra"), f"{STORE}: "),
    "no service": (_in(CARD, "renewal_scoring", "other"), f"{DECLARED}: no feature service other; declared: renewal"),
    "an entity": (_in(CARD, "entity: account", "entity: customer"), "has no view of entity customer"),
    "no contract": (_without(f"{PROBLEM}/contract.yaml"), f"{PROBLEM}/contract.yaml: cannot read"),
    "a column": (_in(FEATURES, "monthly:fee", "monthly:fees"), f"{FEATURES}: input a_fee: reads account_monthly:fees,"),
    "a time": (_in(FEATURES, "monthly:first_month", "monthly:fee"), "as a time, and it is Float32"),
    "a number": (
        _in(FEATURES, TICKETS, '"account_monthly:plan"'),
        "monthly:plan as a number, and it is String",
    ),
    "a name twice": (_in(FEATURES, 'name="a_tickets"', 'name="a_fee"'), "input a_fee: is declared twice"),
    "a given": (
        _both(
            _in(FEATURES, "import DaysSince", "import Given, DaysSince"),
            _in(FEATURES, f'Value(name="a_tickets", of={TICKETS})', 'Given(name="a_tickets", of="hour")'),
        ),
        "input a_tickets: reads hour, which framing.request.context of the card does not name",
    ),
    "a sort key": (_in(CARD, "[a_tickets]", "[tickets]"), f"{CARD}: data.baselines[1].sort_by: tickets is no input"),
    "a covariate": (
        _in(CARD, "harm_margin: 0.01}", "harm_margin: 0.01, covariate: 'account_monthly:age'}"),
        f"{CARD}: requirements.kpis[1].covariate: account_monthly:age is in no view of account",
    ),
    "a slice": (
        _in(CARD, "- {name: fast_enough", SLICES + "- {name: fast_enough"),
        f"{CARD}: operation.gates[3].by: b is no input of {FEATURES}",
    ),
    "a context": (
        _in(CARD, "  label: {name: churned", "  request: {context: [hour]}\n  label: {name: churned"),
        "requests() gave requests without hour, which framing.request.context",
    ),
    "a column of requests": (_in(DATASET, '"unit": months["account"],', ""), "requests without the column unit"),
    "a line": (_in(DATASET, 'kept["fee"]', 'kept["fees"]'), f"{DATASET}:26: KeyError: 'fees'"),
    "a column of a view": (
        _in(FEATURES, 'rows["first_month"]', 'rows["m"]'),
        "account_monthly without first_month",
    ),
    "views": (_in(FEATURES, '{"account_monthly": rows}', "rows.to_numpy()"), "views() gave a ndarray"),
    "a split": (
        _in(CARD, "validate: {start: 2024-07-01, end: 2024-09-01}", "validate: {start: 2024-07-02, end: 2024-07-03}"),
        f"{CARD}: data.splits.validate: no positive row lies from 2024-07-02",
    ),
    "an id": (
        _in(DATASET, '"entity": months["account"]', '"entity": months["account"] + " "'),
        f"{DATASET}: the recorded requests hold 110 values of entity that are no ids",
    ),
    "a label": (_in(DATASET, '"label": months["churned"]', '"label": -months["churned"]'), "label in the recorded"),
    "a key of a view": (
        _in(FEATURES, "return {", 'rows["account"] += " "\n    return {'),
        f"{FEATURES}: the rows of feature view account_monthly hold 110 values of account that are no ids",
    ),
    "the data": (_in(DATA, "account,month", "account,moon"), f"{DATA}: lacks the columns month of the contract"),
    "data that cannot be read": (lambda folder: (folder / DATA).write_text(""), f"{DATA}: "),
}


@pytest.mark.parametrize(("change", "told"), BROKEN.values(), ids=BROKEN)
def test_what_would_break_later_is_told_by_file_and_field_or_line(
    renewal_project: Path, change: Callable[[Path], None], told: str
) -> None:
    change(renewal_project)
    found = faults(renewal_project)
    assert any(told in line for line in found), found


QUARANTINED = "{rule: not_null, column: churned, quarantine: true, budget: 0.01}"
CONTRACT = f"{PROBLEM}/contract.yaml"


def test_code_is_tried_on_the_rows_that_the_contract_accepts(renewal_project: Path) -> None:
    edit(renewal_project, DATA, "A000,2024-04-01,team,12,1,90.0,0", "A000,2024-04-01,team,12,1,90.0,")
    (refused,) = faults(renewal_project)
    assert refused.startswith(f"{DATA}: the contract refuses it: ")
    assert "churned" in refused
    edit(renewal_project, CONTRACT, "{rule: not_null, column: churned}", QUARANTINED)
    assert faults(renewal_project) == []


def test_all_faults_are_told_at_once(renewal_project: Path) -> None:
    edit(renewal_project, CARD, "kind: scoring", "kind: sorting")
    edit(renewal_project, f"{PROBLEM}/contract.yaml", "rule: finite", "rule: infinite")
    edit(renewal_project, DATASET, "import pandas as pd", "import no_such")
    (renewal_project / f"{REPO}/feature_store.yaml").unlink()
    found = check_problem(open_project(), "renewal")
    with pytest.raises(CardError, match="problem renewal has 4 faults") as raised:
        found.require()
    starts = (
        f"{CARD}: framing.kind: ",
        f"{PROBLEM}/contract.yaml: ",
        f"{REPO}/feature_store.yaml: ",
        f"{DATASET}:10: ",
    )
    lines = raised.value.cause.splitlines()
    assert all(any(line.startswith(start) for line in lines) for start in starts), lines
    assert raised.value.exit_code == 2


def test_data_that_is_not_there_or_is_large_is_told_and_is_no_fault(renewal_project: Path) -> None:
    data = renewal_project / f"{PROBLEM}/data/accounts.csv"
    data.write_text(data.read_text() + "\n" * TRIED_BYTES)
    (large,) = check_problem(open_project(), "renewal").notes
    assert "is large, so no function was tried" in large
    data.unlink()
    (missing,) = check_problem(open_project(), "renewal").notes
    assert f"{PROBLEM}/data/accounts.csv is not there" in missing


def test_a_fault_of_the_problems_code_ends_a_step_with_file_line_and_a_code_of_its_own(renewal_project: Path) -> None:
    edit(renewal_project, DATASET, 'kept["fee"]', 'kept["fees"]')
    frame = pd.read_csv(renewal_project / DATA)
    with pytest.raises(ProblemCodeError) as raised, step("features", "renewal", "job") as context:
        context.problem.code.clean(frame)
    assert raised.value.headline == f"{DATASET}:26: KeyError: 'fees'"
    assert 'kept["fees"].astype(float)' in raised.value.cause
    assert raised.value.exit_code == 7
    failure = context.journal.read().failure()
    assert failure is not None
    assert failure.error is not None
    assert failure.error.headline == raised.value.headline


def test_a_fault_of_ours_is_not_put_on_the_problem(renewal_project: Path) -> None:
    with pytest.raises(ZeroDivisionError), step("features", "renewal", "job"):
        _ = 1 / 0


def test_half_a_module_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "toy/dataset.py"
    path.parent.mkdir()
    path.write_text("A = 1\nraise ValueError('x\\ny')\n")
    with pytest.raises(ProblemCodeError, match=r"dataset\.py:2: ValueError: x$"):
        load_module(path)
    path.write_text("A = 2\n")
    assert load_module(path).A == 2


def test_values_that_cannot_be_stored_are_told_by_their_table(tmp_path: Path) -> None:
    mixed = pd.DataFrame({"fee": [1.0, "free"]})
    cannot = pytest.raises(ProblemCodeError, match=r"^table months of clean\(\) cannot be stored: ")
    with cannot, storable("table months of clean()"):
        mixed.to_parquet(tmp_path / "months.parquet", index=False)
