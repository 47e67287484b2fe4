"""Tables that fit the terminal: as it gets narrower, whole columns go, and what matters most stays to the last.

Invariant: a cell that is shown is shown whole: nothing is cut off or replaced by an ellipsis, and what does not fit is
named below the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

_GAP = 2


@dataclass(frozen=True)
class Column:
    """A column with its cells. `goes`: where not all fit, those with the lowest number stay; one with 0 always does.

    `folds`: its cells may be broken into lines, so that the others fit.
    """

    title: str
    cells: Sequence[Text | str]
    goes: int = 0
    right: bool = False
    folds: bool = False

    @property
    def width(self) -> int:
        """Of its widest cell, and of the longest word of its title."""
        texts = [*self.title.split(), *(one.plain if isinstance(one, Text) else one for one in self.cells)]
        return max(map(cell_len, texts), default=0)


@dataclass(frozen=True)
class Fitted:
    """A table of `columns`, all of one length, in the order shown."""

    columns: Sequence[Column]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The columns that fit, and which do not."""
        shown = self.shown(options.max_width)
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        for column, width in zip(shown, _widths(shown, options.max_width), strict=True):
            table.add_column(column.title, justify="right" if column.right else "left", width=width, overflow="fold")
        for row in zip(*(column.cells for column in shown), strict=True):
            table.add_row(*row)
        yield table
        left = [" ".join(column.title.split()) for column in self.columns if column not in shown and any(column.cells)]
        if left:
            yield Text(f"not shown at this width: {', '.join(left)}", style="dim")

    def shown(self, width: int) -> list[Column]:
        """Without columns that are empty, and without those that do not fit."""
        kept = [column for column in self.columns if not column.goes]
        for column in sorted(self.columns, key=lambda one: one.goes):
            if column.goes and any(column.cells) and _total([*kept, column]) <= width:
                kept.append(column)
        return [column for column in self.columns if column in kept]


def columns(titles: Iterable[Column], rows: Iterable[Sequence[Text | str]]) -> Fitted:
    """A table from rows: `titles` are columns without cells."""
    cells = list(zip(*rows, strict=True))
    return Fitted([replace(one, cells=cells[place] if cells else ()) for place, one in enumerate(titles)])


def _total(found: Sequence[Column]) -> int:
    return sum(one.width for one in found) + _GAP * (len(found) - 1)


def _widths(found: Sequence[Column], width: int) -> list[int]:
    """Natural ones, but for what folds: it takes what the others leave."""
    over = _total(found) - width
    return [max(one.width - max(over, 0), 1) if one.folds else one.width for one in found]
