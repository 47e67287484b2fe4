"""What a problem's code promises to hand back, checked where it is handed back.

Invariant: what passes here has every column that later steps read, so a forgotten one is told by its name and by whose
it is, and never as a KeyError of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from serinus.core.card import Problem
from serinus.core.errors import ProblemCodeError

REQUEST_COLUMNS = ("request_id", "entity", "unit", "as_of")
ROW_COLUMNS = ("request", "item", "label", "value")
OUTCOME_COLUMNS = ("request_id", "unit", "name", "item", "value", "at")
_HINT = "what each function of a problem hands back: docs/reference/problem-card.md"


def keep(promise: Iterator[str], where: str) -> None:
    """Raises `ProblemCodeError` with every fault; `where` is the function, as `problems/x/dataset.py: clean()`."""
    faults = list(promise)
    if faults:
        raise ProblemCodeError(f"{where} {faults[0]}", cause="\n".join(faults), hint=_HINT)


def tables(found: object) -> Iterator[str]:
    """Of `clean()`: tables by name."""
    if not isinstance(found, Mapping) or not found:
        yield "gave no tables"
        return
    for name, table in found.items():
        if not isinstance(table, pd.DataFrame):
            yield f"gave a {type(table).__name__} as table {name}, not a DataFrame"


def sources(found: object) -> Iterator[str]:
    """Of `views()`: rows by the name of a view."""
    if not isinstance(found, Mapping):
        yield f"gave a {type(found).__name__}, not rows by the name of a view"
        return
    for name, rows in found.items():
        if not isinstance(rows, pd.DataFrame):
            yield f"gave a {type(rows).__name__} for view {name}, not a DataFrame"


def requests(asked: pd.DataFrame, rows: pd.DataFrame, card: Problem) -> Iterator[str]:
    """Of `requests()`: see `serinus.features.dataset.Requests`."""
    yield from _lacks(asked, REQUEST_COLUMNS, "requests")
    context = [name for name in card.framing.request.context if name not in asked.columns]
    if context:
        yield f"gave requests without {', '.join(context)}, which framing.request.context of the card names"
    yield from _lacks(rows, ROW_COLUMNS, "rows")
    if "as_of" in asked.columns and not pd.api.types.is_datetime64_any_dtype(asked["as_of"]):
        yield f"gave as_of as {asked['as_of'].dtype}, not as times"
    if "request_id" in asked.columns and asked["request_id"].duplicated().any():
        yield f"gave the request_id {asked['request_id'][asked['request_id'].duplicated()].iloc[0]} twice"
    if "request" in rows.columns and not rows["request"].between(0, len(asked) - 1).all():
        yield "gave rows whose request is no position in the requests"


def outcomes(found: pd.DataFrame) -> Iterator[str]:
    """Of `outcomes()`."""
    yield from _lacks(found, OUTCOME_COLUMNS, "outcomes")


def _lacks(frame: pd.DataFrame, wanted: tuple[str, ...], what: str) -> Iterator[str]:
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        yield f"gave {what} without the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
