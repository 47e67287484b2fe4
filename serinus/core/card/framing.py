"""Step 2, framing: the business question as one machine-learning task."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, model_validator

from serinus.core.fields import CardPart, Duration, Kind, Name, Share


class Request(CardPart):
    """What a caller sends besides the entity. `context` names values that the request itself carries."""

    max_items: Annotated[int, Field(ge=1, le=500)] = 1
    context: tuple[Name, ...] = ()


class Candidates(CardPart):
    """How recorded requests become lists to rank. One eligibility rule holds for positives and negatives alike."""

    size: Annotated[int, Field(ge=2, le=500)]
    max_positives: Annotated[int, Field(ge=1)]
    own_history_share: Share = 0.0
    eligible_within: Duration

    @model_validator(mode="after")
    def _room_for_negatives(self) -> Candidates:
        if self.max_positives >= self.size:
            raise ValueError("max_positives must be smaller than size, or a list holds no negatives")
        return self


class Label(CardPart):
    """The outcome to predict: known, and closed, when `maturity` has passed since the request.

    Live outcomes of this name belong to a request by its id, or, where callers cannot carry it, to the unit's requests
    of the last `maturity`.
    """

    name: Name
    positive: Annotated[str, Field(min_length=3)]
    maturity: Duration = timedelta(0)
    attribution: Literal["request", "unit"] = "request"


class Framing(CardPart):
    """Kind, entities, request, label and loss."""

    kind: Kind
    entity: Name
    unit: Name
    item: Name | None = None
    request: Request = Request()
    candidates: Candidates | None = None
    label: Label
    loss: Literal["binary_cross_entropy"]
    outcomes: Literal["depend_on_ranking", "independent_of_ranking"]

    @model_validator(mode="after")
    def _kind_is_whole(self) -> Framing:
        ranking = self.kind is Kind.RANKING
        for field in ("item", "candidates"):
            if ranking and getattr(self, field) is None:
                raise ValueError(f"kind ranking needs {field}")
            if not ranking and getattr(self, field) is not None:
                raise ValueError(f"kind scoring has one entity a request and no {field}; remove it")
        return self
