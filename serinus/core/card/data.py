"""Step 3, data and models: where rows come from, how time splits them, and which models compete."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from serinus.core.fields import CardPart, Direction, Duration, Name


class Window(CardPart):
    """Days `start` (included) to `end` (excluded)."""

    start: date
    end: date

    @model_validator(mode="after")
    def _forward(self) -> Window:
        if self.start >= self.end:
            raise ValueError(f"start {self.start} must be before end {self.end}")
        return self

    def __contains__(self, day: object) -> bool:
        return isinstance(day, date) and self.start <= day < self.end


class Splits(CardPart):
    """Three windows in order of time; what lies before `train` only feeds features."""

    train: Window
    validate_: Annotated[Window, Field(alias="validate")]
    test: Window

    @model_validator(mode="after")
    def _in_order(self) -> Splits:
        if not (self.train.end <= self.validate_.start and self.validate_.end <= self.test.start):
            raise ValueError("windows must follow each other: train, then validate, then test; none may overlap")
        return self

    def items(self) -> tuple[tuple[str, Window], ...]:
        """The windows by name, in order of time."""
        return (("train", self.train), ("validate", self.validate_), ("test", self.test))


class Candidate(CardPart):
    """One model that competes. `params` go to the library that fits it."""

    name: Name
    kind: Literal["linear", "gbdt", "neural"]
    params: dict[str, Any] = Field(default_factory=dict)


class Selection(CardPart):
    """The rule that picks one candidate: best `metric` on the validation window among those in the latency class.

    Latency is compared in classes (upper bounds in ms), never as raw times, so two runs agree.
    """

    metric: Name
    direction: Direction
    latency_classes_ms: Annotated[tuple[float, ...], Field(min_length=1)]
    slowest_class_ms: float

    @model_validator(mode="after")
    def _classes_rise(self) -> Selection:
        if list(self.latency_classes_ms) != sorted(set(self.latency_classes_ms)):
            raise ValueError("latency_classes_ms must rise")
        if self.slowest_class_ms not in self.latency_classes_ms:
            raise ValueError(f"slowest_class_ms must be one of latency_classes_ms {self.latency_classes_ms}")
        return self


class Baseline(CardPart):
    """A ranking without a model: sort by these model inputs, largest first; an empty list is a random order."""

    name: Name
    sort_by: tuple[str, ...] = ()
    first_if_positive: str | None = None


class Data(CardPart):
    """Source, features, splits, sampling and candidates."""

    source: str
    snapshot_time: datetime
    seed: Annotated[int, Field(ge=0)] = 0
    features: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*\.py$")] = "features.py"
    feature_service: Name
    contract: str = "contract.yaml"
    splits: Splits
    negative_sampling_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    calibration: Literal["sampling_correction", "platt"] = "sampling_correction"
    calibration_window: Duration | None = None
    candidates: Annotated[tuple[Candidate, ...], Field(min_length=1)]
    selection: Selection
    baselines: tuple[Baseline, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> Data:
        names = [candidate.name for candidate in self.candidates]
        if len(set(names)) < len(names):
            raise ValueError(f"candidate names must differ: {', '.join(names)}")
        kinds = [candidate.kind for candidate in self.candidates]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"candidates must be of different kinds, got {', '.join(kinds)}")
        return self
