"""Reads a CSV file: text first, then the kind of each column by all of its cells (docs/concepts/inputs.md, CSV).

Invariant: no cell is guessed at alone, none is lost, and what is no whole table in UTF-8 is a `DataError` that says
where it breaks.
"""

from __future__ import annotations

import codecs
import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from serinus.core.errors import DataError
from serinus.validation.frames import empty_blanks

# One block where it can be: a row must lie within one. Arrow counts in 32 bits.
_LEAST_BLOCK, _MOST_BLOCK = 1 << 20, 1 << 30
_EMPTY_WORDS = pa.array(["NA", "N/A", "n/a", "#N/A", "NULL", "null", "NaN", "nan"])
_DAY, _CLOCK, _ZONE = r"\d{4}-\d{2}-\d{2}", r"[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?", r"(Z|[+-]\d{2}(:?\d{2})?)"
_WHOLE = r"-?(0|[1-9]\d*)"
_DIGITS = r"(\d+\.\d*|\.\d+)([eE][+-]?\d+)?|\d+[eE][+-]?\d+|[iI]nf(inity)?"
# In this order; a column of which no cell says anything has none.
_KINDS: tuple[tuple[str, tuple[pa.DataType, ...]], ...] = (
    (r"[tT]rue|[fF]alse|TRUE|FALSE", (pa.bool_(),)),
    (_WHOLE, (pa.int64(),)),
    (rf"{_WHOLE}|[+-]?({_DIGITS})", (pa.float64(),)),
    (rf"{_DAY}({_CLOCK})?", (pa.timestamp("us"), pa.timestamp("ns"))),
    (rf"{_DAY}{_CLOCK}{_ZONE}", (pa.timestamp("us", tz="UTC"), pa.timestamp("ns", tz="UTC"))),
)
_SAMPLE = 1_000
# The fewest digits of a whole number that a double may change.
_LONG = r"[+-]?\d{16,}(\.0*)?"
_MOST_DIGITS = 19


def read_csv(path: Path, name: str) -> pa.Table:
    """The table, typed; `name` is what errors call the file."""
    _require_text(path, name)
    reading = pa_csv.ReadOptions(block_size=min(max(path.stat().st_size + 1, _LEAST_BLOCK), _MOST_BLOCK))
    parsing = pa_csv.ParseOptions(newlines_in_values=True)
    try:
        with pa_csv.open_csv(path, read_options=reading, parse_options=parsing) as opened:
            given = opened.schema.names
        columns = _named(given, name)
        # A line without anything is a row of the one column, and nothing where there are more.
        parsing = pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=len(columns) > 1)
        text = pa_csv.ConvertOptions(column_types=dict.fromkeys(given, pa.string()), strings_can_be_null=False)
        table = pa_csv.read_csv(path, read_options=reading, parse_options=parsing, convert_options=text)
    except (pa.ArrowException, UnicodeDecodeError) as fault:
        raise _fault(path, name, fault) from fault
    _require_closed_quotes(path, name)
    return pa.table([_typed(one) for one in table.columns], names=columns)


def _named(given: list[str], name: str) -> list[str]:
    """The names without blanks at their ends. Raises `DataError` for none, and for separators of another kind."""
    names = [one.strip() for one in given]
    other = next((mark for mark in ";\t|" if len(names) == 1 and mark in names[0]), "")
    if other:
        raise DataError(f"{name} is not separated by commas", cause=f"its first line is {names[0]!r}")
    if "" in names:
        raise DataError(f"{name} has a column without a name", cause=f"column {names.index('') + 1} of {len(names)}")
    return names


def _typed(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """As the first kind that fits every cell which says something, else as text."""
    trimmed = pc.utf8_trim_whitespace(cells)
    silent = pc.or_(pc.equal(trimmed, ""), pc.is_in(trimmed, value_set=_EMPTY_WORDS))
    spoken = trimmed.filter(pc.invert(silent))
    if not len(spoken):
        return pa.chunked_array([pa.nulls(len(cells))])
    values = pc.if_else(silent, pa.scalar(None, trimmed.type), trimmed)
    for pattern, kinds in _KINDS:
        if not _all_like(spoken, pattern):
            continue
        for kind in kinds:
            with _unless_invalid():
                return _exact(values.cast(kind), spoken)
    return empty_blanks(cells)


def _exact(typed: pa.ChunkedArray, spoken: pa.ChunkedArray) -> pa.ChunkedArray:
    """Raises `ArrowInvalid` for digits that a double would change: such a column holds ids, and stays text.

    So it does for numbers beyond all doubles, which would become infinite.
    """
    if pa.types.is_float64(typed.type):
        found = typed.drop_null()
        endless = spoken.filter(pc.is_inf(found))
        if len(endless) and pc.any(pc.match_substring_regex(endless, r"\d")).as_py():
            raise pa.ArrowInvalid("beyond all doubles")
        long = spoken.filter(pc.match_substring_regex(spoken, rf"^{_LONG}$")).to_pylist()
        if any(_changed(one.partition(".")[0]) for one in long):
            raise pa.ArrowInvalid("digits would be lost")
    return typed


def _changed(whole: str) -> bool:
    """Whether a double, or 64 bits with a sign, do not hold these digits."""
    if len(whole.lstrip("+-")) > _MOST_DIGITS:
        return True
    number = int(whole)
    return number != int(float(whole)) or not -(2**63) <= number < 2**63


@contextmanager
def _unless_invalid() -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid:
        return


def _all_like(spoken: pa.ChunkedArray, pattern: str) -> bool:
    return all(
        pc.all(pc.match_substring_regex(some, rf"^({pattern})$")).as_py() for some in (spoken.slice(0, _SAMPLE), spoken)
    )


def _require_text(path: Path, name: str) -> None:
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in head:
        hint = "if it is, convert it: iconv -f UTF-16 -t UTF-8"
        raise DataError(f"{name} is not UTF-8", cause="it looks like UTF-16", hint=hint)


def _fault(path: Path, name: str, fault: Exception) -> DataError:
    """What is wrong with a file that arrow refuses."""
    broken = _first_bad_byte(path)
    if broken is not None:
        line, byte, shown = broken
        return DataError(
            f"{name} is not UTF-8",
            cause=f"line {line} holds the byte 0x{byte:02x}; read as cp1252 (Windows) it says {shown!r}",
            hint="if that is right, convert it: iconv -f cp1252 -t UTF-8",
        )
    if "Empty CSV file" in str(fault):
        return DataError(f"{name} has no rows", cause="it has one line, or none")
    return DataError(f"{name} is not a whole CSV table", cause=str(fault)[:1000], hint="export the file again")


def _first_bad_byte(path: Path) -> tuple[int, int, str] | None:
    """The line (from 1), the byte, and what stands around it in cp1252; None when all is UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as fault:
                around = line[max(fault.start - 20, 0) : fault.start + 20]
                return number, line[fault.start], around.decode("cp1252", errors="replace").strip()
    return None


def _require_closed_quotes(path: Path, name: str) -> None:
    """Arrow takes a quote that nobody closes for one that the end of the file does: rows would vanish into a cell."""
    with path.open("rb") as file:
        if not any(b'"' in part for part in iter(lambda: file.read(_LEAST_BLOCK), b"")):
            return
    before = csv.field_size_limit(sys.maxsize)
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)
            for _ in reader:
                pass
    except csv.Error as fault:
        raise DataError(
            f"{name} is not a whole CSV table",
            cause=f"a quote is not closed as it should be, at the latest in line {reader.line_num}: {fault}",
            hint='quotes inside of a cell are doubled: "a ""b"" c"',
        ) from fault
    finally:
        csv.field_size_limit(before)
