"""The section about rollouts: for each the verdict in a sentence, then what it rests on.

Invariant: says what the records say; a rollout that was not decided, or never began, is told as such.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from serinus.core.rollout.record import KpiFigures, RolloutRecord, StepFigures
from serinus.core.rollout.spec import Revision
from serinus.core.rollout.state import Entry
from serinus.core.run import RunRecord
from serinus.core.words import Phase, StepKind
from serinus.report import rollout_plots as plots

_LOOKS = {Phase.PROMOTED: "pass", Phase.ROLLED_BACK: "fail"}
_DAY = 86_400


def section(run: RunRecord) -> dict[str, Any] | None:
    """What the template shows; None when the run made no rollouts."""
    records = [RolloutRecord.model_validate(one) for one in run.facts("rollouts").get("rollouts", [])]
    if not records:
        return None
    ends = Counter(words(one.outcome) for one in records)
    return {
        "count": ", ".join(f"{count} {end}" for end, count in ends.items()),
        "recorded": any(one.recorded_outcomes for one in records),
        "alpha": ", ".join(sorted({f"{100 * one.alpha:g} %" for one in records})),
        "rollouts": [_told(one) for one in records],
    }


def words(phase: Phase) -> str:
    """An end state as people write it."""
    return phase.value.replace("_", " ")


def headline(record: RolloutRecord) -> str:
    """The verdict and what decided it, in one sentence or two."""
    if record.outcome is Phase.PROMOTED:
        return f"The candidate serves now: {_because(record)} {_took(record)}"
    if record.outcome is Phase.ROLLED_BACK:
        return f"{_refused(record)}: {_because(record)} {_took(record)}"
    if record.outcome.ended:
        where = f"All traffic is with {record.stable.name}, as before." if record.started_at else "It never began."
        return f"{words(record.outcome).capitalize()}: {record.reason}. {where}"
    if record.outcome is Phase.STEPPING:
        last = record.log[-1].reason if record.log else ""
        return f"Under way, in step {len(record.steps) - 1} ({_traffic(record.steps[-1])}); {last}."
    return "Waits for its turn." if record.outcome is Phase.QUEUED else "The candidate is coming up."


def _refused(record: RolloutRecord) -> str:
    """How far a candidate came that was rolled back."""
    last = record.steps[-1] if record.steps else None
    if last is None:
        return "Refused before any request reached it"
    if record.decided_in == "shadow":
        return "Rejected in shadow, before a user saw it"
    return f"Rolled back at {last.weight} % of the traffic"


def _because(record: RolloutRecord) -> str:
    by = next((one for one in record.kpis if one.name == record.decided_by), None)
    if by is None or by.boundary is None:
        return f"{record.reason}."
    interval = f"{by.name} changed by {percent(by.estimate)} ({between(by.low, by.high)})"
    if record.outcome is Phase.ROLLED_BACK:
        return f"{interval}, which is beyond its harm boundary of {limit(by.boundary)}."
    margin = f"the whole interval is better than the margin of {limit(by.boundary)}"
    return f"{interval}; {margin}, and no KPI was found harmed."


def _took(record: RolloutRecord) -> str:
    planned = "" if record.planned_units is None else f" ({record.planned_units:,} planned)"
    time = f" and {duration(record.ended_at - record.started_at)}" if record.ended_at and record.started_at else ""
    of = f" of {record.replayed}" if record.replayed else ""
    return f"It took {record.used_units:,} units{planned}{of}{time}." if record.steps else ""


def percent(value: float | None) -> str:
    """A change with its sign."""
    return "–" if value is None else f"{round(100 * value, 1) + 0.0:+.1f} %".replace("-", "−")


def between(low: float | None, high: float | None) -> str:
    """An interval; a bound that is None has no end."""
    return f"{'−∞' if low is None else percent(low)} to {'+∞' if high is None else percent(high)}"


def limit(value: float | None) -> str:
    """A boundary as the card has it; nothing where there is none."""
    return "" if value is None else f"{100 * value:{'+' if value else ''}.4g} %".replace("-", "−")


def duration(seconds: float) -> str:
    """In the two largest units that say something."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((place for place, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count) or "0 s"


def clock(seconds: float) -> str:
    """Time since the start, as h:mm:ss, with days before it where there are any."""
    days, rest = divmod(max(round(seconds), 0), _DAY)
    hours, rest = divmod(rest, 3600)
    text = f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours or days else f"{rest // 60}:{rest % 60:02d}"
    return f"{days} d {text}" if days else text


def _told(record: RolloutRecord) -> dict[str, Any]:
    first = [one for one in record.paths if one.role == "goal" or one.kpi == record.decided_by]
    first.sort(key=lambda one: one.kpi != record.decided_by)
    rest = [one for one in record.paths if one not in first]
    look = next((one.look for one in reversed(record.log) if one.event == "end"), None)
    others = [one for one in map(plots.interval, rest) if one]
    return {
        "record": record,
        "outcome": words(record.outcome),
        "style": _LOOKS.get(record.outcome, "not_applicable"),
        "headline": headline(record),
        "arms": _arms(record),
        "steps": [_step(number, one) for number, one in enumerate(record.steps)],
        "kpis": [_kpi(one, record) for one in record.kpis],
        "traffic": plots.traffic(record),
        "plots": [plots.interval(one, decided_at=look if one.kpi == record.decided_by else None) for one in first],
        "others": others,
        "log": [_entry(one, record) for one in record.log],
        "notes": _notes(record),
    }


def _arms(record: RolloutRecord) -> list[dict[str, str]]:
    weight = record.traffic[-1].weight if record.traffic else 0
    arms = (("stable", record.stable, 100 - weight), ("canary", record.candidate, weight))
    return [{"arm": name, "share": f"{share} %", **_revision(one)} for name, one, share in arms]


def _revision(one: Revision) -> dict[str, str]:
    served = one.template.partition("@")[0] or "the predictor of the package"
    return {"name": one.name, "version": str(one.model.version), "served": served}


def _traffic(step: StepFigures) -> str:
    if step.kind is StepKind.SHADOW:
        return f"{step.share:.0%} mirrored".replace("%", " %")
    return f"{step.weight} %"


def _step(number: int, step: StepFigures) -> dict[str, str]:
    planned = "" if step.planned_units is None else f"{step.planned_units:,}"
    return {
        "number": str(number),
        "kind": step.kind.value,
        "traffic": _traffic(step),
        "least": f"{step.min_units:,}" if step.min_units else "",
        "planned": planned,
        "units": f"{step.units:,}",
        "requests": f"{step.requests:,}",
        "failed": "" if step.failed is None else f"{step.failed:,}",
        "time": "" if step.seconds is None else duration(step.seconds),
        "ended": step.ended,
    }


def _kpi(one: KpiFigures, record: RolloutRecord) -> dict[str, Any]:
    return {
        "name": one.name,
        "role": one.role,
        "better": "more" if one.direction == "higher" else "less",
        "estimate": percent(one.estimate),
        "interval": "" if one.estimate is None else between(one.low, one.high),
        "harm": limit(one.harm),
        "margin": limit(one.margin),
        "said": one.said or ("nothing to compare yet" if one.estimate is None else ""),
        "style": {"harmed": "fail", "not inferior": "pass"}.get(one.said, "soft"),
        "bar": plots.bar(one),
        "decided": one.name == record.decided_by,
    }


def _entry(entry: Entry, record: RolloutRecord) -> dict[str, str]:
    begun = record.started_at if record.started_at is not None else entry.at
    since = "" if entry.since is None else f"{clock(entry.since - begun)} to "
    interval = f"{entry.metric} {percent(entry.estimate)} ({between(entry.low, entry.high)})"
    against = "" if entry.boundary is None else f" against {limit(entry.boundary)}"
    return {
        "when": since + clock(entry.at - begun),
        "step": "" if entry.step < 0 else str(entry.step),
        "event": entry.event + (f" × {entry.times:,}" if entry.times > 1 else ""),
        "verdict": entry.verdict.value,
        "measured": interval + against if entry.metric and entry.estimate is not None else entry.metric,
        "units": " / ".join(f"{count:,}" for count in entry.units.values()),
        "reason": entry.reason,
    }


def _notes(record: RolloutRecord) -> list[str]:
    """Conditions, what was not judged, and what was never reached."""
    broken = [one for one in record.conditions if one.name == "SampleRatioMatched" and not one.holds]
    waits = [one for one in record.conditions if one.name == "CandidateReady" and not one.holds]
    unjudged = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in record.unjudged.items() if count)
    repeated = record.replayed.flag if record.replayed else ""
    notes = [f"Repeated: {repeated}."] if repeated else []
    notes += [f"Frozen: units did not reach the arms in the planned shares ({one.reason})." for one in broken]
    if not broken and record.steps:
        notes.append("Units reached the arms in the planned shares, as far as the sequential test can tell.")
    notes += [f"The candidate was not ready: {one.reason or 'still starting'}." for one in waits]
    notes.append(f"Answered but not judged: {unjudged}." if unjudged else "Every request that closed was judged.")
    return notes + ([f"Never reached: {', '.join(record.ahead)}."] if record.ahead else [])
