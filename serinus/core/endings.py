"""How a run and its steps ended: what a log says of a failed step, and what follows from a step without a record.

Invariant: a run whose last step left no record has failed, whatever else is known; `heard` reads what `told` wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from serinus.core.run import RunRecord, StepError, StepRecord

_MARK = re.compile(r"serinus: step ([a-z_]+) failed with exit code (\d+)$")
_BEFORE_TRAINING = ("prepare", "contract_raw", "features", "training_set", "contract_training")
_AFTER_TRAINING = ("evaluate", "gates", "register", "materialize", "deploy")


def ended(record: RunRecord, kinds: Sequence[str], when: datetime) -> RunRecord:
    """The record of a run that is over: where no step failed but one is missing, that one has failed, and says so.

    `kinds` are those of the candidates, `when` is now. A process that crashes, is killed or never starts writes none.
    """
    names = {step.name for step in record.steps}
    planned = [*_BEFORE_TRAINING, *(f"train_{kind}" for kind in kinds), *_AFTER_TRAINING]
    missing = next((name for name in planned if name not in names), None)
    if missing is None or record.failure() is not None:
        return record
    before = [step for step in record.steps if step.name in planned]
    where = f"the run ended after {before[-1].name}; {missing}" if before else f"the first step, {missing},"
    error = StepError(
        error="SerinusError",
        headline=f"{where} left no record",
        cause="its process crashed, was killed (memory, cancelled) or never started",
        hint="the log of its task, or its pod, says more",
    )
    lost = StepRecord(name=missing, status="failed", started_at=when, seconds=0.0, error=error)
    others = [step for step in record.steps if step not in before]
    return record.model_copy(update={"steps": (*before, lost, *others)})


def told(step: str, error: StepError) -> str:
    """The last words of a step that failed, for its log: which, with what exit code, headline, cause and hint."""
    words = [part for part in (error.headline, error.cause, error.hint) if part]
    return "\n".join([f"serinus: step {step} failed with exit code {error.exit_code}", *words, ""])


def heard(lines: Iterable[str]) -> tuple[str, StepError] | None:
    """Step and fault from a log whose last words `told` wrote; cause and hint are one text. None for any other log."""
    found: tuple[str, int] | None = None
    words: list[str] = []
    for line in lines:
        mark = _MARK.match(line)
        if mark:
            found, words = (mark[1], int(mark[2])), []
        else:
            words.append(line)
    if found is None:
        return None
    headline, *rest = words or [""]
    return found[0], StepError(error="SerinusError", headline=headline, cause="\n".join(rest), exit_code=found[1])
