"""The problem card: the four steps of ML system design as one typed, executable document.

Invariant: a card that loads is complete; what later stages read from it has already been validated here.
"""

from serinus.core.card.data import Candidate, Data, Selection, Splits, Window
from serinus.core.card.framing import Framing
from serinus.core.card.operation import GateRule, Operation
from serinus.core.card.problem import Problem, asked_candidates, parse_card
from serinus.core.card.requirements import Requirements
from serinus.core.fields import Kind
from serinus.core.kpi import Kpi

__all__ = [
    "Candidate",
    "Data",
    "Framing",
    "GateRule",
    "Kind",
    "Kpi",
    "Operation",
    "Problem",
    "Requirements",
    "Selection",
    "Splits",
    "Window",
    "asked_candidates",
    "parse_card",
]
