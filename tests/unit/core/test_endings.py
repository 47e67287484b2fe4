"""How runs end: a step without a record is a failure, and a log's last words are read as they were written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from serinus.core.endings import ended, heard, told
from serinus.core.run import RunRecord, StepError, StepRecord

BEGAN = datetime(2026, 11, 27, tzinfo=UTC)
WHOLE = (
    *("prepare", "contract_raw", "features", "training_set", "contract_training", "train_linear", "train_gbdt"),
    *("evaluate", "gates", "register", "materialize", "deploy"),
)
KINDS = ("linear", "gbdt")


def _record(*names: str, failed: str = "") -> RunRecord:
    steps = tuple(
        StepRecord(
            name=name, status="failed" if name == failed else "ok", started_at=BEGAN + timedelta(0, i), seconds=1
        )
        for i, name in enumerate(names)
    )
    return RunRecord(problem="renewal", pipeline_run="r", steps=steps)


def test_a_whole_run_is_as_it_was() -> None:
    record = _record(*WHOLE, "lookup")
    assert ended(record, KINDS, BEGAN) is record


def test_a_failed_step_is_the_failure() -> None:
    record = _record(*WHOLE[:9], failed="gates")
    assert ended(record, KINDS, BEGAN) is record


@given(st.integers(min_value=0, max_value=len(WHOLE) - 1))
def test_whichever_step_left_no_record_has_failed(place: int) -> None:
    found = ended(_record(*WHOLE[:place]), KINDS, BEGAN).failure()
    assert found is not None
    assert (found.name, found.started_at) == (WHOLE[place], BEGAN)
    assert found.error is not None
    assert found.error.headline.endswith("left no record")
    assert WHOLE[place] in found.error.headline
    if place:
        assert found.error.headline.startswith(f"the run ended after {WHOLE[place - 1]}; ")


def test_of_siblings_the_one_that_died_is_named() -> None:
    found = ended(_record(*WHOLE[:5], "train_gbdt"), KINDS, BEGAN).failure()
    assert found is not None
    assert found.name == "train_linear"


def test_steps_that_are_no_part_of_the_training_come_last() -> None:
    steps = [step.name for step in ended(_record("prepare", "lookup"), KINDS, BEGAN).steps]
    assert steps == ["prepare", "contract_raw", "lookup"]


LINE = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1)


@given(
    st.lists(LINE, max_size=3), st.sampled_from(WHOLE), LINE, st.lists(LINE, max_size=3), st.sampled_from([1, 2, 3, 5])
)
def test_what_a_step_told_is_heard(noise: list[str], step: str, headline: str, cause: list[str], code: int) -> None:
    error = StepError(error="GateFailed", headline=headline, cause="\n".join(cause), hint="train again", exit_code=code)
    found = heard([*noise, *told(step, error).splitlines()])
    assert found is not None
    assert found[0] == step
    assert (found[1].headline, found[1].exit_code) == (headline, code)
    assert found[1].cause.splitlines() == [*cause, "train again"]


def test_another_log_says_nothing() -> None:
    assert heard(["Traceback (most recent call last):", "TypeError: Cannot instantiate typing.Union"]) is None
